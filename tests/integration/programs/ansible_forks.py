"""A playbook over four local hosts with two forks: facts, a loop, a failure that is rescued.

Needs: ansible-core
"""

import contextlib
import io
import os
import pathlib
import re
import sys

from ansible.cli.playbook import main

PLAY = """
- hosts: all
  gather_facts: false
  strategy: linear
  tasks:
    - ansible.builtin.command: echo {{ inventory_hostname }} {{ item }}
      loop: [1, 2]
      register: said
    - ansible.builtin.debug:
        msg: "{{ said.results | map(attribute='stdout') | join(',') }}"
    - block:
        - ansible.builtin.command: /bin/false
      rescue:
        - ansible.builtin.debug:
            msg: rescued
"""

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    (folder / "play.yml").write_text(PLAY)
    python = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (folder / "hosts").write_text("".join(f"host{number} {python}\n" for number in range(4)))
    os.environ.update(HOME=str(folder), ANSIBLE_NOCOLOR="1", ANSIBLE_LOCALHOST_WARNING="0")
    told = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(told):
        main(["ansible-playbook", "-i", str(folder / "hosts"), "-f", "2", str(folder / "play.yml")])
    # Hosts answer in any order, and a failure is told with its times.
    lines = re.findall(r"^(?:ok|changed|host\d| +.msg).*", told.getvalue(), re.MULTILINE)
    print("\n".join(sorted(lines)))
