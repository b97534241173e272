#!/bin/sh
# A node in a container: joins with its token, once, then works until it is told to stop.
# usage: node.sh NAME
set -eu
name=$1
folder=${NODE_FOLDER:-/node}
token=${NODE_TOKENS:-/tokens}/$name
if [ ! -e "$folder/node.json" ]; then
    echo "$name waits for its token ..."
    until [ -s "$token" ]; do sleep 1; done
    millpond node join "${HOST_URL:-https://host:8787}" - \
        --name "$name" --folder "$folder" --address "${NODE_ADDRESS:-$name}" <"$token"
    rm -f "$token"
fi
exec python -m millpond.worker --folder "$folder"
