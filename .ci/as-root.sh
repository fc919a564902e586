# Sourced: runs a command as root, through sudo where we are not root already.

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        local settings # sudo drops the environment; what is set for cowtrace, or podman, stays
        mapfile -t settings < <(env | grep -E '^(COWTRACE|CONTAINERS)_')
        # Python run as root would leave root's files in a user's checkout.
        sudo env PYTHONDONTWRITEBYTECODE=1 "${settings[@]}" "$@"
    else
        echo "cowtrace: not root, and there is no sudo: cannot run $1" >&2
        echo "Hint: run make again as root" >&2
        return 1
    fi
}
