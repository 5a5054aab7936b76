//! The corpora of the fuzz targets, replayed: what was found once stays mended.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

#[test]
fn every_input_of_every_corpus() {
    for (name, body) in bodies::ALL {
        let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).expect("each target has a corpus") {
            body(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{folder} is empty");
    }
}

/// Inputs of a fixed generator, for those who do not run the fuzzers.
#[test]
fn some_random_inputs() {
    let mut state = 1_u64;
    for round in 0..300_usize {
        let data: Vec<u8> = (0..round % 200)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        for (_, body) in bodies::ALL {
            body(&data);
        }
    }
}
