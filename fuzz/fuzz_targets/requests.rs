#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(how) = procession_fuzz::in_child(|| procession_fuzz::requests(input)) {
        panic!("{how}");
    }
});
