#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    understudy_tests::boundary::hold("kubernetes", bytes);
});
