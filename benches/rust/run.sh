#!/bin/sh
# Builds the peers that can be built here, and measures. Arguments go to the program: the number of rounds.
cd "$(dirname "$0")" || exit 1
cargo=${CARGO:-cargo}
features=
for peer in ipc-channel procspawn codecs; do
    if $cargo build --release --quiet --features "$peer" 2> build.log; then
        features="$features $peer"
    else
        echo "$peer cannot be built here and is left out: $(grep -m1 '^error' build.log)"
    fi
done
rm -f build.log
$cargo run --release --quiet --features "$features" --bin procession-bench -- "$@" || exit 1
case $features in
*codecs*) echo && $cargo run --release --quiet --features codecs --bin codecs ;;
esac
