//! The Python extension module `procession._procession`.
use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _procession {}
