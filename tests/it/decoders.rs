//! What the fuzz targets below `tests/fuzz` call: it builds, and takes every example of their corpora. The
//! third one calls what is built for tests of the room itself, `http::fuzzing`.

use std::fs;
use std::path::Path;

#[path = "../fuzz/decoders/doors/foreign.rs"]
mod foreign;
#[path = "../fuzz/decoders/doors/usersig.rs"]
mod usersig;

/// What a target calls with each input.
type Door = fn(&[u8]);

#[test]
fn every_example_of_the_fuzz_targets_is_taken_as_it_has_to_be() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/decoders/corpus");
    let doors: [(&str, Door); 2] = [("foreign", foreign::open), ("usersig", usersig::open)];
    for (corpus, door) in doors {
        let examples = fs::read_dir(corpora.join(corpus)).expect("each target has a corpus");
        let mut count = 0;
        for example in examples {
            door(&fs::read(example.expect("an example").path()).expect("it can be read"));
            count += 1;
        }
        assert!(count > 0, "{corpus}");
    }
}
