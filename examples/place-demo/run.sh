#!/bin/sh
# run.sh - the demonstration of one policy over three places, all of them on this machine: a node that has the policy, one
# that plays the office's (edge), one that plays a provider (cloud), and this folder at http://127.0.0.1:6440. What they
# keep lies in a folder that is removed at the end.
# usage: examples/place-demo/run.sh [PROGRAM]        Ctrl-C ends all of it
cd "$(dirname "$0")" || exit 1
nigh=${1:-../../build/nigh}
kept=$(mktemp -d) || exit 1
trap 'kill $pids 2> /dev/null; wait; rm -rf "$kept"' EXIT
trap 'exit 1' INT TERM
for port in 6445 6446; do
    NIGH_HOME=$kept/$port "$nigh" serve --port $port > /dev/null &
    pids="$pids $!"
done
NIGH_HOME=$kept/6444 "$nigh" serve --policy features.json --allow-private 127.0.0.1:6446 --allow-origin http://127.0.0.1:6440 &
pids="$pids $!"
python3 -m http.server 6440 --bind 127.0.0.1 > /dev/null 2>&1 &
pids="$pids $!"
echo "open http://127.0.0.1:6440"
wait
