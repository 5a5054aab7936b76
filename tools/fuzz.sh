#!/usr/bin/env bash
# Runs every fuzz target for TIME seconds, and the target of the Python readers if atheris is there.
# libFuzzer needs flags of the nightly compiler, which RUSTC_BOOTSTRAP lets the stable one take.
set -euo pipefail
seconds=${1:-60}
python=${2:-python3}
cd "$(dirname "$0")/.."
command -v cargo-fuzz > /dev/null || cargo install --locked cargo-fuzz
export RUSTC_BOOTSTRAP=1
for body in fuzz/targets/*.rs; do
  target=$(basename "$body" .rs)
  # New inputs go to a folder of their own; what is found is copied into the corpus by hand.
  mkdir -p "fuzz/artifacts/new/$target"
  cargo fuzz run --sanitizer none "$target" "fuzz/artifacts/new/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=1024 -print_final_stats=1
done
if "$python" -c 'import atheris' 2> /dev/null; then
  mkdir -p fuzz/artifacts/new/python_readers
  "$python" fuzz/readers.py fuzz/artifacts/new/python_readers fuzz/corpus/readers \
    -max_total_time="$seconds" -max_len=4096
else
  echo "atheris is not installed: the Python readers are left to hypothesis (tests/formats)"
fi
