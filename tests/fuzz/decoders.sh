#!/usr/bin/env bash
# Fuzzes what reads bytes of others: bodies of requests, UserSigs, and what disks, brokers and nodes hand over.
#
#     tests/fuzz/decoders.sh [seconds]      for each of the three; 60 if nothing is said
#
# It needs a nightly compiler and cargo-fuzz (`cargo install cargo-fuzz`), which .ci/run does not ask
# for: there, property tests beside the code feed the same doors with changed examples, and a test builds
# what the targets call and feeds it their corpora. The build
# is one of its own, below target/fuzz/decoders; what is found on the way stays there as well. A request
# that breaks something is printed and kept below target/fuzz/decoders/found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly SECONDS_EACH=${1:-60}
readonly HOME_DIR=tests/fuzz/decoders
# The longest input, in bytes: beyond it there is only more of the same.
readonly BYTES_MAX=4096
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz/decoders
export CARGO_TARGET_DIR

for target in request usersig foreign; do
    mkdir -p "$CARGO_TARGET_DIR/corpus/$target" "$CARGO_TARGET_DIR/found/$target"
    # No sanitizer: there is no unsafe code to be watched, and without it the build takes half the time.
    cargo +nightly fuzz run --fuzz-dir "$HOME_DIR" --sanitizer none "$target" \
        "$CARGO_TARGET_DIR/corpus/$target" "$HOME_DIR/corpus/$target" -- \
        -max_total_time="$SECONDS_EACH" -max_len="$BYTES_MAX" -timeout=5 -rss_limit_mb=1024 \
        -dict="$HOME_DIR/$target.dict" -artifact_prefix="$CARGO_TARGET_DIR/found/$target/"
done
