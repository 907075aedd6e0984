# sh fill-store.sh SHIPPED STORE
#
# Copies a model's versions from the image (SHIPPED) into the volume (STORE) if they are newer than all that the volume
# has of that model. Never changes a version that is there. A copy gets its name when it is complete and on disk, so a
# service that follows the store sees whole versions only. Pods that start together take turns.
set -eu
shipped=$1 store=$2

fail() {
    echo "error: $*" >&2
    exit 1
}

newest() { # the highest version in a model's folder, 0 if there is none
    { ls "$1" 2>/dev/null || true; } | grep -Ex '[1-9][0-9]{0,8}' | sort -n | tail -n 1 | grep . || echo 0
}

[ -d "$shipped" ] || fail "$shipped is not a folder; pass the image's models as the first argument"
[ -d "$store" ] || fail "$store is not a folder; mount the volume there"

# A lock on the folder itself leaves no file. File systems without locks (some NFS) copy at the same time, which is
# safe: each copy has a name of its own, and the first to be renamed wins.
exec 9<"$store"
locked=yes
flock --wait 300 9 2>/dev/null || locked=no

for source in "$shipped"/*/; do
    [ -d "$source" ] || fail "$shipped holds no models; pass the image's models as the first argument"
    model=$(basename "$source")
    latest=$(newest "$store/$model")
    for version in $(ls "$source" | grep -Ex '[1-9][0-9]{0,8}' | sort -n); do
        target=$store/$model/$version
        if [ "$version" -le "$latest" ]; then
            if [ -e "$target" ] && ! cmp -s "$source$version/manifest.json" "$target/manifest.json"; then
                echo "$target differs from the image's version $version and stays as it is" >&2
            fi
            continue
        fi
        if ! mkdir -p "$store/$model" 2>/dev/null || ! [ -w "$store/$model" ]; then
            [ "$latest" = 0 ] &&
                fail "$store holds no version of $model and cannot be written by user $(id -u); make the volume writable for the first start"
            echo "$store cannot be written by user $(id -u); it lacks version $version of $model, $latest stays the newest" >&2
            continue
        fi
        # Whatever a killed pod left behind; with the lock, no other pod is copying.
        [ $locked = no ] || rm -rf "$store/$model"/.filling-*
        copy=$(mktemp -d "$store/$model/.filling-XXXXXX")
        trap 'rm -rf "$copy"' EXIT
        trap 'exit 1' HUP INT TERM
        cp -r "$source$version/." "$copy"
        chmod -R u=rwX,go=rX "$copy"
        find "$copy" -exec sync {} +
        if mv -T "$copy" "$target" 2>/dev/null; then
            sync "$store/$model"
            echo "copied version $version of $model into $store"
        elif [ -d "$target" ]; then
            echo "another pod copied version $version of $model"
        else
            fail "$copy could not be renamed to $target; check the volume"
        fi
    done
done
