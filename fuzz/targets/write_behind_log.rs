#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nearside_fuzz::write_behind_log(data));
