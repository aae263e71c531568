//! Passes the Python version that is built for to the source, as cfg flags.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
