#!/usr/bin/env bash
# Makes the virtual environment that tools/peers and tools/checks run in: PyTorch (run on the CPU), transformers,
# tiktoken and TensorBoard at the versions of requirements.txt. Installs tcmalloc too, where apt can.
#
#   tools/peers/setup.sh [VENV]        VENV: default target/peers-venv below the repository's root
#
# The first call downloads about 2.3 GB (on Linux, PyTorch's wheel brings CUDA's libraries) and takes some 4.5 GB of
# disk; later calls return at once. PYTHON names another interpreter (3.11 or later).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${1:-$root/target/peers-venv}
stamp=$venv/installed-requirements.txt

if ! cmp --silent "$here/requirements.txt" "$stamp"; then
    [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-deps --requirement "$here/requirements.txt"
    "$venv/bin/python" -c 'import torch, transformers, safetensors, tiktoken, tensorboard'
    cp "$here/requirements.txt" "$stamp"
fi
echo "virtual environment: $venv"

# tcmalloc: preloaded, it spares PyTorch some hundred thousand page faults a step on GPT-2 124M.
tcmalloc() { find /usr/lib /usr/local/lib -name 'libtcmalloc_minimal.so.4' -print -quit 2>/dev/null; }
if [ -z "$(tcmalloc)" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "tcmalloc: not found and no apt-get here: install gperftools yourself" >&2
    elif [ "$(id -u)" -ne 0 ]; then
        echo "tcmalloc: not found; as root: apt-get install -y libtcmalloc-minimal4" >&2
    else
        apt-get install -qq -y libtcmalloc-minimal4 >/dev/null ||
            { apt-get update -qq && apt-get install -qq -y libtcmalloc-minimal4 >/dev/null; } ||
            echo "tcmalloc: apt-get could not install libtcmalloc-minimal4" >&2
    fi
fi
library=$(tcmalloc)
echo "tcmalloc: ${library:-none}"
