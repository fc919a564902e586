# To source: run a command as root, with sudo if this is not root.

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        local settings # sudo drops the environment; keep the variables of cowtrace and podman
        mapfile -t settings < <(env | grep -E '^(COWTRACE|CONTAINERS)_')
        # Python run as root would leave root's files in a user's checkout.
        sudo env PYTHONDONTWRITEBYTECODE=1 "${settings[@]}" "$@"
    else
        echo "cowtrace: not root, and there is no sudo: cannot run $1" >&2
        echo "Hint: run make again as root" >&2
        return 1
    fi
}
