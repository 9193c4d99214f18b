//! Examples for `qcheck help COMMAND`; a test of `cli` parses each of them.

/// For `amend`.
pub const AMEND: &str = "\
Examples:
  qcheck amend -o compat=v3 disk.qcow2
  qcheck amend -o lazy_refcounts=on,refcount_bits=64 disk.qcow2
  qcheck amend --object secret,id=s,file=key --object secret,id=t,file=new \
-o state=active,new-secret=t --image-opts driver=luks,key-secret=s,file.filename=disk.luks";

/// For `bitmap`.
pub const BITMAP: &str = "\
Examples:
  qcheck bitmap --add -g 64k disk.qcow2 monday
  qcheck bitmap --disable --merge monday disk.qcow2 week
  qcheck bitmap --add --merge week -b old.qcow2 -F qcow2 disk.qcow2 week
  qcheck bitmap --remove disk.qcow2 monday";

/// For `check`.
pub const CHECK: &str = "\
Examples:
  qcheck check disk.qcow2
  qcheck check -r leaks disk.qcow2
  qcheck check --repair --dry-run disk.qcow2
  qcheck check --repair --undo before disk.qcow2
  qcheck check --data --digest sha256 disk.qcow2
  qcheck check -j 8 --output junit a.qcow2 b.qcow2
  qcheck check --files-from list --output ndjson
  qcheck check --live disk.qcow2
  qcheck check --files-from list --shard 3/8 --since state --output ndjson --output-file 3.ndjson
  qcheck check --output prometheus --output-file qcheck.prom a.qcow2 b.qcow2
  qcheck check --policy untrusted --max-virtual-size 100G upload.qcow2
  qcheck check --timeout 10 https://images.example/disk.qcow2";

/// For `commit`.
pub const COMMIT: &str = "\
Examples:
  qcheck commit overlay.qcow2
  qcheck commit -b base.qcow2 -p overlay.qcow2";

/// For `compact`.
pub const COMPACT: &str = "\
Examples:
  qcheck compact --dry-run --zeroes disk.qcow2
  qcheck compact --zeroes -p disk.qcow2
  qcheck compact --compress=zstd template.qcow2
  qcheck compact --target-size 20G /dev/vg/lv";

/// For `compare`.
pub const COMPARE: &str = "\
Examples:
  qcheck compare disk.qcow2 copy.raw
  qcheck compare -s before.qcow2 after.qcow2";

/// For `convert`.
pub const CONVERT: &str = "\
Examples:
  qcheck convert -p -O qcow2 disk.raw disk.qcow2
  qcheck convert -c -O qcow2 -o compression_type=zstd disk.qcow2 small.qcow2
  qcheck convert -O raw disk.qcow2 /dev/vg/disk
  qcheck convert --object secret,id=s,file=key -O luks -o key-secret=s disk.qcow2 disk.luks";

/// For `create`.
pub const CREATE: &str = "\
Examples:
  qcheck create -f qcow2 disk.qcow2 20G
  qcheck create -f qcow2 -o cluster_size=128k,preallocation=metadata disk.qcow2 1T
  qcheck create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2
  qcheck create --object secret,id=s,file=key -f luks -o key-secret=s disk.luks 20G";

/// For `dd`.
pub const DD: &str = "\
Examples:
  qcheck dd if=disk.qcow2 of=disk.raw bs=1M
  qcheck dd -O qcow2 if=disk.raw of=part.qcow2 bs=1M skip=1 count=100";

/// For `dump`.
pub const DUMP: &str = "\
Examples:
  qcheck dump disk.qcow2 report.qcow2
  qcheck dump --blank-names disk.qcow2 report.qcow2";

/// For `info`.
pub const INFO: &str = "\
Examples:
  qcheck info disk.qcow2
  qcheck info --backing-chain --output json overlay.qcow2
  qcheck info --metadata disk.qcow2
  qcheck info --layout --color always disk.qcow2";

/// For `map`.
pub const MAP: &str = "\
Examples:
  qcheck map disk.qcow2
  qcheck map --output json overlay.qcow2
  qcheck map -s 1G -l 64M disk.qcow2";

/// For `measure`.
pub const MEASURE: &str = "\
Examples:
  qcheck measure -O qcow2 disk.raw
  qcheck measure -O qcow2 -o cluster_size=2M --size 1T
  qcheck measure --output json -O qcow2 -l before-upgrade disk.qcow2";

/// For `rebase`.
pub const REBASE: &str = "\
Examples:
  qcheck rebase -b new-base.qcow2 -F qcow2 overlay.qcow2
  qcheck rebase -p -b '' overlay.qcow2
  qcheck rebase -u -b /vm/moved.qcow2 -F qcow2 overlay.qcow2";

/// For `report`.
pub const REPORT: &str = "\
Examples:
  qcheck report -o report.html disk.qcow2
  qcheck report -j 0 --files-from list -o report.html
  qcheck report --from monday.ndjson --from tuesday.ndjson -o week.html
  qcheck report --from a=a.ndjson --from b=b.ndjson -o hosts.html";

/// For `resize`.
pub const RESIZE: &str = "\
Examples:
  qcheck resize disk.qcow2 +10G
  qcheck resize --shrink disk.qcow2 5G";

/// For `snapshot`.
pub const SNAPSHOT: &str = "\
Examples:
  qcheck snapshot -l disk.qcow2
  qcheck snapshot -c before-upgrade disk.qcow2
  qcheck snapshot -a before-upgrade disk.qcow2
  qcheck snapshot -d before-upgrade disk.qcow2";

/// For `undo`.
pub const UNDO: &str = "\
Examples:
  qcheck check --repair --undo before disk.qcow2
  qcheck undo before disk.qcow2";
