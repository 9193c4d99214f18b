#!/bin/sh
# Makes the images of this directory and what qemu-img says about them.
#
# Not run by any test: an image here changes only when somebody runs this on purpose and looks at
# what changed. Made with qemu-img 10.0.2; give it an empty directory.
set -eu
cd "$1"

io() { image=$1; shift; qemu-io -d unmap "$@" "$image" >/dev/null; }
create() { qemu-img create -q -f qcow2 -o "$2" "$1" "${3-1M}"; }
# poke FILE OFFSET BYTES: overwrites bytes, given as printf escapes.
poke() { printf "$3" | dd of="$1" bs=1 seek="$(($2))" conv=notrunc status=none; }
work() { io "$1" -c 'write -P 1 0 20k' -c 'write -P 2 256k 9k' -c 'discard 4k 4k'; }

create v2.qcow2 compat=0.10,cluster_size=1k
work v2.qcow2

create v3.qcow2 cluster_size=512,refcount_bits=64
work v3.qcow2
io v3.qcow2 -c 'write -z 2k 1k' -c 'write -z -u 12k 1k'

create snapshots.qcow2 cluster_size=1k,refcount_bits=8
work snapshots.qcow2
qemu-img snapshot -c first snapshots.qcow2
io snapshots.qcow2 -c 'write -P 3 2k 5k' -c 'write -b -P 9 0 4k'
qemu-img snapshot -c second snapshots.qcow2
io snapshots.qcow2 -c 'write -P 4 700k 3k'

create zlib.qcow2 cluster_size=4k
io zlib.qcow2 -c 'write -c -P 1 0 64k' -c 'write -P 2 8k 4k'
create zstd.qcow2 cluster_size=4k,compression_type=zstd
io zstd.qcow2 -c 'write -c -P 1 0 64k' -c 'write -P 2 8k 4k'

create subclusters.qcow2 cluster_size=16k,extended_l2=on
io subclusters.qcow2 -c 'write -P 1 1k 2k' -c 'write -z 2k 1k' -c 'write -P 2 32k 3k'

create bitmaps.qcow2 cluster_size=1k
qemu-img bitmap --add -g 64k bitmaps.qcow2 day
work bitmaps.qcow2
qemu-img bitmap --add --disable -g 512 bitmaps.qcow2 hour

create dirty.qcow2 cluster_size=1k,lazy_refcounts=on
(io dirty.qcow2 -c 'write -P 1 0 9k' -c flush -c 'sigraise 9') 2>/dev/null || true

create leaks.qcow2 cluster_size=512
caches=l2-cache-size=2048,refcount-cache-size=2048
(qemu-io -d unmap -c 'write 0 200k' -c 'discard 0 200k' -c 'sigraise 9' --image-opts \
    "driver=qcow2,$caches,file.filename=leaks.qcow2" >/dev/null) 2>/dev/null || true

# Three clusters that nothing maps any more, one count too low, one too high, one COPIED missing.
create damaged.qcow2 cluster_size=4k 4M
io damaged.qcow2 -c 'write -P 1 0 64k' -c 'write -P 2 2M 16k' -c 'write -P 3 3M 12k'
poke damaged.qcow2 0x200c '\0\0'                             # the count of cluster 6, in use
poke damaged.qcow2 0x2010 '\0\2'                             # the count of cluster 8, used once
poke damaged.qcow2 0x15800 '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' # the mappings of 3M and the cluster after it
poke damaged.qcow2 0x15810 '\0\0\0\0\0\0\0\0'               # and of the third cluster
poke damaged.qcow2 0x4028 '\0'                               # the COPIED flag of guest cluster 5

for image in *.qcow2; do
    expected=${image%.qcow2}.expected
    code=0
    qemu-img check "$image" >stdout 2>stderr || code=$?
    {
        echo "=== exit"
        echo $code
        echo "=== stdout"
        cat stdout
        echo "=== stderr"
        cat stderr
        echo "=== json"
        qemu-img check --output json "$image" 2>/dev/null || true
    } >"$expected"
    rm stdout stderr
done
