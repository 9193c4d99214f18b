#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| qcheck_fuzz::fuzzing::convert::run(input));
