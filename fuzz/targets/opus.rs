#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::codec_side::opus(bytes));
