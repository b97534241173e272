# Install what this machine lacks of a folder of Debian packages, without any network.
# sh install_debs.sh FOLDER (as root)
set -eu
folder=$(cd "$1" && pwd)
due=$(mktemp -d)
trap 'rm -rf "$due"' EXIT
chmod 755 "$due" # apt reads as a user of its own.
for file in "$folder"/*.deb; do
    name=$(dpkg-deb -f "$file" Package) version=$(dpkg-deb -f "$file" Version)
    here=$(dpkg-query -W -f '${Version}' "$name" 2>/dev/null || true)
    if [ -z "$here" ] || dpkg --compare-versions "$here" lt "$version"; then
        cp "$file" "$due/"
    fi
done
[ -n "$(ls "$due")" ] || exit 0
# apt finds the order that dpkg alone would not.
DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null \
    install --no-install-recommends "$due"/*.deb
