"""What travels between processes: functions and classes by value, shared objects in others."""
