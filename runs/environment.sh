# Sourced by quickstart.sh and test.sh: sets $python to one that has the packages, installed if needed.
#   make_environment requirements.txt
#   VENV      the environment's folder, .venv if not given; under CI it is outside the clone, with a key
#             of the requirements in its name, so that it is installed once and reused
#   NEWEST=1  installs the newest versions instead of those of constraints.txt
# A stamp file marks a finished installation; an interrupted one is repeated.

make_environment() {
  local needs=$1 base stamp key constraints=(--constraint constraints.txt)
  if [ "${NEWEST:-0}" = 1 ]; then constraints=(); fi
  base=$(command -v python3 || command -v python) || { echo "error: no python3 on PATH" >&2; exit 2; }
  "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { echo "error: $base is older than Python 3.10" >&2; exit 2; }
  key=$({ cat constraints.txt requirements*.txt "$needs"; echo "${NEWEST:-0}"; } | cksum | cut -d ' ' -f 1)
  if [ -n "${CI:-}" ]; then
    venv=${VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/edge-cascades/venv-$key}
  else
    venv=${VENV:-.venv}
  fi
  python=$venv/bin/python
  stamp=$venv/whole-$key
  if [ -e "$stamp" ]; then return; fi
  echo "installing $venv (PyTorch takes some 5 GB with its CUDA libraries; a minute or more) ..."
  if [ ! -x "$python" ]; then "$base" -m venv --clear "$venv"; fi
  "$python" -m pip install --quiet --disable-pip-version-check -r "$needs" \
    ${constraints[@]+"${constraints[@]}"}
  touch "$stamp"
}
