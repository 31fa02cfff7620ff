# Sourced by the doors beside it (scripts/demo, scripts/test, ...), in the repository's root: makes the virtual environments under
# .environments/, each on first use, and keeps them in step with pyproject.toml and the constraints.

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# An environment holds what we put into it, and nothing else.
unset PYTHONPATH PYTHONHOME
# See --no-compile below.
unset PYTHONDONTWRITEBYTECODE

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail \
    "spiketape needs Python 3.11 or newer, and '$python' is not that." \
    "Install it, or name another interpreter: PYTHON=/path/to/python3.12 $0"
# Where one of the environments is active, its Python is not what that environment was made with; and one Python
# has several names, of which an environment would be made for each.
python=$("$python" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')

# Debian keeps what venv needs in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || fail \
        "'$python' cannot make virtual environments. On Debian and Ubuntu: sudo apt-get install $package"
    echo "Installing $package, without which '$python' makes no virtual environments"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package" >/dev/null
fi

# install ENVIRONMENT PYTHON "FILE ..." ARGUMENT...
#
# Makes .environments/ENVIRONMENT with PYTHON, and runs "pip install ARGUMENT..." in it; a second time only if
# the interpreter, one of the files or the constraints changed since. Shows a dot for each package.
install() {
    local name=$1 python=$2 files=$3
    shift 3
    local folder=.environments/$name log=.environments/$name.log version stamp recipe
    mkdir -p .environments

    # Environments hold absolute paths, and so do not survive a move of the repository.
    version="$PWD $("$python" -c 'import sys; print(sys.executable, sys.version)')"
    if [[ $(cat "$folder/made-with" 2>/dev/null) != "$version" ]]; then
        # The pip that came with Python may be too old to know dependency groups.
        "$python" -m venv --clear "$folder" >"$log" 2>&1 &&
            "$folder/bin/pip" install --no-compile -c scripts/constraints.txt pip >>"$log" 2>&1 ||
            fail "$(tail -n 30 "$log")" "Could not make $folder"
        echo "$version" >"$folder/made-with"
    fi

    stamp=$folder/installed-$(sha256sum <<<"$*" | cut -c 1-8)
    # shellcheck disable=SC2086 # several files in one argument
    recipe=$(cat scripts/constraints.txt $files | sha256sum)
    if [[ $(cat "$stamp" 2>/dev/null) != "$recipe" ]]; then
        # Python compiles what is used when it is first imported; to compile all of torch takes a minute.
        "$folder/bin/pip" install --no-compile -c scripts/constraints.txt "$@" 2>&1 | tee -a "$log" |
            while read -r word _; do [[ $word != Collecting ]] || printf .; done ||
            fail "" "$(tail -n 30 "$log")" "Could not install into $folder: pip install $*"
        echo "$recipe" >"$stamp"
    fi
}
