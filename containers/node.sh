#!/bin/sh
# A node in a container: joins with its token, once, then works until it is told to stop.
# usage: node.sh NAME
set -eu
name=$1
folder=${MILLPOND_NODE_FOLDER:-/node}
if [ ! -e "$folder/node.json" ]; then
    echo "$name waits for its token ..."
    until [ -s "/tokens/$name" ]; do sleep 1; done
    millpond node join "${MILLPOND_HOST_URL:-https://host:8787}" - \
        --name "$name" --folder "$folder" --address "$name" <"/tokens/$name"
    rm -f "/tokens/$name"
fi
exec python -m millpond.worker --folder "$folder"
