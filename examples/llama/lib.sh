# What the scripts that start a real llama-server share: python environments, free ports, waiting with a bound, and
# cleaning up. POSIX sh, to be sourced; needs python3 (installed on Debian when run by root), curl only where it is there.

# Processes to stop and a folder to remove when the script ends, however it ends; see `clean_up_at_exit`.
PIDS=
SCRATCH=

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The path of folder $1 with links resolved.
absolute() { (CDPATH='' cd -- "$1" && pwd -P); }

# Makes sure that `python3 -m venv` works: Debian ships python3 without it.
need_python_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null && return
    command -v apt-get >/dev/null 2>&1 || die "python3 with the venv module is needed: install it and run this again"
    [ "$(id -u)" = 0 ] || die "python3-venv is needed: run 'sudo apt-get install python3-venv' and then this again"
    {
        timeout --foreground 300 apt-get -qq update &&
            DEBIAN_FRONTEND=noninteractive timeout --foreground 600 apt-get -qq install -y --no-install-recommends python3-venv
    } >&2 || die "apt-get could not install python3-venv"
    python3 -c 'import ensurepip, venv' || die "python3-venv is installed, but 'python3' on PATH still lacks it"
}

# pip of the environment $1, quiet and bounded, with the remaining arguments.
pip_in() {
    environment=$1
    shift
    timeout --foreground 900 "$environment/bin/python" -m pip --quiet --disable-pip-version-check "$@" >&2
}

# Environment $1 holds what `pip install` with the remaining arguments installs. Done once per wish $2: a word that
# changes when the packages do. The mark is written last, so that a broken attempt is started over.
need_environment() {
    environment=$1
    mark=$1/.installed-$2
    shift 2
    [ -e "$mark" ] && return
    need_python_venv
    rm -rf "$environment"
    timeout --foreground 120 python3 -m venv "$environment" || die "could not make the python environment $environment"
    pip_in "$environment" install "$@" || die "pip could not install: $*"
    : >"$mark"
}

# GET $1 with success as exit status and the body on stdout.
get() {
    if command -v curl >/dev/null 2>&1; then
        curl --silent --fail --max-time 2 "$1"
    else
        python3 -c 'import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=2).read().decode())' "$1" 2>/dev/null
    fi
}

# $1 different free loopback ports on one line. They are free when looked at; nothing reserves them.
free_ports() {
    python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

# Runs in the background, with its output in the file $1, the remaining arguments as a command. Sets STARTED to its
# process id; it is stopped when the script ends.
start() {
    log=$1
    shift
    nice -n 5 "$@" >"$log" 2>&1 </dev/null &
    STARTED=$!
    PIDS="$PIDS $STARTED"
}

# Waits until GET $2 succeeds: $1 is what is waited for, in words, $3 its process, $4 the seconds it may take.
wait_for() {
    deadline=$(($(date +%s) + $4))
    until get "$2" >/dev/null; do
        kill -0 "$3" 2>/dev/null || die "$1 ended before it answered $2"
        [ "$(date +%s)" -lt "$deadline" ] || die "$1 did not answer $2 within $4 s"
        sleep 0.1
    done
}

# Asks every started process to end, gives them 5 s together, and ends the rest.
stop_all() {
    [ -z "$PIDS" ] && return
    # shellcheck disable=SC2086 # process ids, one word each
    kill $PIDS 2>/dev/null
    tries=50
    for pid in $PIDS; do
        while kill -0 "$pid" 2>/dev/null; do
            tries=$((tries - 1))
            if [ "$tries" -le 0 ]; then
                kill -9 "$pid" 2>/dev/null
                break
            fi
            sleep 0.1
        done
        wait "$pid" 2>/dev/null
    done
    PIDS=
}

clean_up() {
    status=$?
    set +e # a process that was stopped is no failure of the script
    trap - EXIT
    trap '' HUP INT TERM
    stop_all
    if [ "$status" -ne 0 ] && [ -n "$SCRATCH" ]; then
        for log in "$SCRATCH"/*.log; do
            [ -s "$log" ] && printf '\n--- last lines of %s\n%s\n' "${log##*/}" "$(tail -n 20 "$log")" >&2
        done
    fi
    [ -n "$SCRATCH" ] && rm -rf "$SCRATCH"
    exit "$status"
}

# From here on the script has a SCRATCH folder, and however it ends (done, failed, Ctrl-C) its processes are stopped and
# the folder is removed. When it fails, the last lines of each *.log in the folder are shown first.
clean_up_at_exit() {
    SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/hoosh.XXXXXX") || die "could not make a temporary folder"
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}
