#!/bin/bash
# Keeps the container running for `docker exec`. A stop signals only this process: it passes the signal on, so that
# producers and consumers of `docker exec` end in order, and waits for them.
trap 'kill -TERM -1; while grep -qs python /proc/[0-9]*/comm; do sleep 0.1; done; exit' TERM INT
sleep infinity & wait
