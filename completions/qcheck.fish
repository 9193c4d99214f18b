# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_qcheck_global_optspecs
    string join \n color= timeout= allow-remote-names h/help V/version
end

function __fish_qcheck_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_qcheck_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_qcheck_using_subcommand
    set -l cmd (__fish_qcheck_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c qcheck -n "__fish_qcheck_needs_command" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_needs_command" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_needs_command" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_needs_command" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_needs_command" -s V -l version -d 'Print version'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "amend" -d 'Change options of an image: its version, its refcounts, its size, its passphrases'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "bitmap" -d 'Change a persistent bitmap of an image; all actions are done in their order, as one change'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "check" -d 'Check qcow2 images, and repair one with -r'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "commit" -d 'Bring the data of an image into its backing file, and empty the image'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "compact" -d 'Make the file of an image shorter, in place, and keep all that it holds'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "compare" -d 'Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments, 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "convert" -d 'Copy one or several disks into one image, qcow2 or raw'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "create" -d 'Create a new image: qcow2, raw or LUKS'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "dd" -d 'Copy blocks of a disk into a new image'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "dump" -d 'Copy an image\'s metadata for a bug report: a check of the copy finds the same, and it holds no guest data'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "info" -d 'Show what an image is: format, sizes, snapshots, bitmaps'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "map" -d 'Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "measure" -d 'Calculate the length of a new image\'s file'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "rebase" -d 'Give an image another backing file, or none, and keep what a guest reads'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "report" -d 'Check images and write one HTML page about them, or about results of other runs: verdicts, findings and what they mean, layout, contents, snapshots, backing chain'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "resize" -d 'Resize the disk of an image; --shrink allows a smaller one'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "snapshot" -d 'List, create, apply or delete the snapshots of an image'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "undo" -d 'Undo a repair: put back every byte that \'check -r .. --undo FILE\' recorded before it wrote'
complete -c qcheck -n "__fish_qcheck_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -s f -l format -d 'The image\'s format, qcow2 or luks; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -s o -l options -d 'Options of the image, as name=value,...; "help" lists them' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -s t -l cache -d 'How the image is written: writeback, writethrough, none, directsync or unsafe' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -l force -d 'The disk may get shorter, and loses the data past its new end; a key slot in use may be overwritten, and the last one erased, so that nothing opens the image any more'
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -s q -l quiet -d 'Print nothing but errors'
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand amend" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s f -l format -d 'The image\'s format; only qcow2 has bitmaps; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l merge -d 'Set the bits of the bitmap of this name too' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s g -l granularity -d 'With --add: guest bytes for each bit, a power of two from 512 to 2G; by default, and with 0, the cluster size, at least 4k and at most 64k' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s b -l source-file -d 'With --merge: the image that has the bitmaps to merge' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s F -l source-format -d 'The format of the image of -b, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l add -d 'Add a bitmap, which records writes'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l remove -d 'Remove the bitmap, also one that was left in use'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l clear -d 'Clear all bits'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l enable -d 'Record writes from now on'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l disable -d 'Record no writes from now on'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s q -l quiet -d 'Print nothing but errors'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand bitmap" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s f -l format -d 'The image\'s format, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s r -l repair -d 'Repair refcounts that are too high (leaks), or everything that can be repaired (all); --repair alone means all' -r -f -a "leaks\t''
all\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l undo -d 'Record in this new file what a repair overwrites, before it does, so that \'undo\' can put it back' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l reattach -d 'With -r all: put lost L2 tables back, each that only one L1 entry can have pointed to; or the table in this cluster into this L1 entry, of the snapshot with this ID if @ID follows. A check names tables and entries' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l hint-size -d 'Use this size of the virtual disk in place of a damaged header\'s' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l hint-cluster-size -d 'Use this cluster size in place of a damaged header\'s' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l hint-backing -d 'Record this backing file where the header is rebuilt from nothing' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l hint-backing-format -d 'The format of that backing file' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l hint-data-file -d 'Record this external data file where the header is rebuilt from nothing' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l output -d 'How to print the result' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs; an array where there can be several images'
ndjson\t'An object a line for each image, as soon as it is checked'
junit\t'JUnit XML: a test case for each image'
sarif\t'SARIF: a result for each finding'
prometheus\t'Metrics in Prometheus\'s text format, for node_exporter\'s textfile collector'"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l output-file -d 'Write the result to this file instead, whole or not at all' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s T -l cache -d 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l max-findings -d 'Print at most this many findings and sum up the rest by kind; 0 prints all [default: 1000; 100000 lines into a file or pipe]' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l files-from -d 'Check also the images that this file names, one a line or with a zero byte after each; - is standard input' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s j -l jobs -d 'Check this many images at a time, 1 if not given; 0: one for each processor. The form of the output is that of several images' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l shard -d 'Check only part I of N of the images: the name alone, as given, decides to which part an image belongs. A part without images is a success' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l since -d 'Do not check images again that were clean when an earlier run recorded them in this file, and whose length, time and header are the same; they count as clean. The file is replaced at the end; at first it need not exist' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l policy -d 'Deny what an image from an untrusted source should not have: every word of --deny but \'compressed\'' -r -f -a "untrusted\t'For images from an untrusted source'"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l deny -d 'Deny these features; exit code 4 for an image that has one' -r -f -a "backing\t''
data-file\t''
encryption\t''
snapshots\t''
bitmaps\t''
unknown-features\t''
unknown-extensions\t''
dirty\t''
corrupt\t''
compressed\t''
other-format\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l allow -d 'Take words back from --policy and --deny' -r -f -a "backing\t''
data-file\t''
encryption\t''
snapshots\t''
bitmaps\t''
unknown-features\t''
unknown-extensions\t''
dirty\t''
corrupt\t''
compressed\t''
other-format\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l max-virtual-size -d 'Deny disks of more bytes than this, for example 100G' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l max-ratio -d 'Deny images that hold more than N bytes of guest data for each byte of their file' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l digest -d 'Print a digest of the disk as a guest sees it, and of each snapshot\'s: the same for each format' -r -f -a "sha256\t'What sha256sum prints of the raw disk'
blake3\t'What b3sum prints of the raw disk, made by several threads'"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l live-rounds -d 'Read what is suspected so often before it counts, with pauses of 5 ms and then twice as long each [default: 8, which takes 1.3 s]' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l dry-run -d 'Print what a repair would write, and write nothing; the exit code is that of the check'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l allow-data-loss -d 'With -r all: drop what cannot be repaired, that is mappings that point to nothing and snapshots and bitmaps that cannot be read, and release what may have belonged to them'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l image-opts -d 'Take the images as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l explain -d 'Explain each kind of finding: what it means, what to do, and which guest data it affects, by partition and file system, for which the backing files are read too'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s q -l quiet -d 'Print no result; findings still go to standard error'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s p -l progress -d 'Show progress even where standard error is not a terminal'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s U -l force-share -d 'Read the image even if another program has it open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l backing-chain -d 'Check the backing files of the images too, each once'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l data -d 'Read and decompress all guest data, of snapshots too, and the data of bitmaps, and look whether the external data file and all backing files are there'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l live -d 'Check an image that a running machine is writing: what is found is read again, what vanishes is not reported, and what cannot be decided is a notice. Implies -U'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s f -l format -d 'The image\'s format, qcow2 or raw; probed from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s b -l base -d 'Commit to this image of the backing chain instead of the backing file: its name as the image that refers to it has it, or its path; implies --drop' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s r -l rate -d 'Most bytes a second' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s t -l cache -d 'How the images are written: writeback, writethrough, none, directsync or unsafe' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s d -l drop -d 'Do not empty the image'
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s q -l quiet -d 'Print nothing but errors'
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand commit" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -s f -l format -d 'The image\'s format, which must be qcow2; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l compress -d 'Store guest data compressed too, of the disk and of all snapshots, by the method that the image records or by this one' -r -f -a "zlib\t''
zstd\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l until -d 'Stop where the file is no longer than SIZE' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l target-size -d 'Move everything below SIZE, so that a volume can be cut to that size; where that is not possible, change nothing' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l max-moves -d 'Move at most so many bytes' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -s r -l rate -d 'Move at most so many bytes a second' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l output -d 'How to print the result' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs'"
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l zeroes -d 'Free guest clusters that hold only zeroes too, of the disk and of all snapshots'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l defragment -d 'Put data in the order of the guest too, and metadata together at the front'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l punch-only -d 'Move nothing: make holes of free clusters, and cut off the free end of the file'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l dry-run -d 'Report what would be done, exactly, and change nothing'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -s q -l quiet -d 'Print nothing but errors'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand compact" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s f -l a-format -d 'The format of the first image, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s F -l b-format -d 'The format of the second image' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s T -l cache -d 'How the images are read: writeback, writethrough, none, directsync or unsafe' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s s -l strict -d 'Also compare the sizes, and which ranges the images record as data, zeroes or nothing'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -l image-opts -d 'Take the images as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s U -l force-share -d 'Read the images even if another program has them open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s q -l quiet -d 'Print nothing but errors'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand compare" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s f -l source-format -d 'The format of the sources, qcow2 or raw; detected from their first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s O -l target-format -d 'The format of the target' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s o -l target-options -d 'Options of the target\'s format, as name=value,...; "help" lists them' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s B -l backing -d 'Give the target this backing file, and store only what differs from it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s F -l backing-format -d 'The format of the backing file' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l source-backing-format -d 'The format of backing files of the sources for which an image records none, qcow2 or raw; without this such a file is raw, or refused where it begins like an image' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s l -l source-snapshot -d 'Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s s -d 'Read the snapshot of this id or name' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s S -l sparse-size -d 'Store no run of zeroes from this many bytes on; 0 stores all' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s m -l parallel -d 'The number of threads, 1 to 16; one for each core if not given' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s t -l target-cache -d 'How the target is written: writeback, writethrough, none, directsync or unsafe' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s T -l source-cache -d 'How the sources are read, likewise' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s r -l rate -d 'Limit the bytes per second' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l output -d 'The format of the report of what was lost (--salvage)' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs'"
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s c -l compress -d 'Compress the target\'s clusters'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s W -l oob-writes -d 'Accepted as by qemu-img: writes are never in order, and the target looks the same every time'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s n -l no-create -d 'Write into an existing image'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l target-is-zero -d 'Assume that the existing target reads as zeroes'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s C -l copy-range-offloading -d 'Let the system copy data from file to file where it can'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l salvage -d 'Write zeroes for what cannot be read, and report it'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l bitmaps -d 'Copy the persistent bitmaps, too'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l skip-broken-bitmaps -d 'Leave out bitmaps that are in use or inconsistent'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l verify -d 'Read both sides again afterwards, and compare'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l image-opts -d 'Take the sources as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l target-image-opts -d 'Take the target, which exists (-n), as options'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s U -l force-share -d 'Read the sources even if another program has them open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s q -l quiet -d 'Show no progress and no losses'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s f -l format -d 'The new image\'s format: qcow2, raw or luks' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s o -l options -d 'Options of the format, as name=value,...; "help" lists them' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s b -l backing -d 'The file that has what the new image does not have' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s F -l backing-format -d 'The format of the backing file' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s u -l backing-unsafe -d 'Do not open the backing file'
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s q -l quiet -d 'Do not print what is created'
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand create" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -s f -l format -d 'The format of the disk that is read, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -s O -l output-format -d 'The format of the new image' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -l image-opts -d 'Take the disk that is read as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -s U -l force-share -d 'Read the disk even if another program has it open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand dd" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -s f -l format -d 'The image\'s format; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -l blank-names -d 'Overwrite the names of files, snapshots and bitmaps with others of the same length'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -l keep-slack -d 'Keep the unused rest of metadata clusters, which may hold former guest data'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -s U -l force-share -d 'Read the image even if another program has it open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -s q -l quiet -d 'Print no result'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -s p -l progress -d 'Show progress even where standard error is not a terminal'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand dump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -s f -l format -d 'The image\'s format, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l output -d 'How to print the result' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs'"
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -s b -l backing-chain -d 'Show the backing file too, and its backing file, and so on'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l metadata -d 'Show every header field and every table with its offset, and which bytes of the file are for what; not together with --layout'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l layout -d 'Draw the layout of the file and the allocation of the disk; with --output json print runs; not together with --metadata'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -s U -l force-share -d 'Read the image even if another program has it open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -s f -l format -d 'The image\'s format, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -l output -d 'How to print the result; for people, only data is printed' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs'"
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -s s -l start-offset -d 'Begin at this guest offset' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -s l -l max-length -d 'End after this many bytes' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -s U -l force-share -d 'Read the image even if another program has it open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand map" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s f -l format -d 'The format of the image that is measured, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s O -l target-format -d 'The format of the new image' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s o -l options -d 'Options of the new image, as name=value,...; "help" lists them' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s s -l size -d 'Measure a new image of this size without data' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s l -l snapshot -d 'Measure this snapshot of the image: its id or name, or snapshot.id=..,snapshot.name=..' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l output -d 'How to print the result' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs'"
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s U -l force-share -d 'Read the image even if another program has it open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s f -l format -d 'The image\'s format, qcow2 or raw; probed from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s b -l backing -d 'The new backing file, relative to the folder of the image; \'\' for none' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s F -l backing-format -d 'The format of the new backing file' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s t -l cache -d 'How the image is written: writeback, writethrough, none, directsync or unsafe' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s T -l backing-cache -d 'How the new backing file is read, likewise' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s u -l backing-unsafe -d 'Only record the backing file: look at no data, and open neither the old nor the new one'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s c -l compress -d 'Compress the clusters that the image gets'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s U -l force-share -d 'Read backing files even if another program has them open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s p -l progress -d 'Show the progress'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s q -l quiet -d 'Print nothing but errors'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand rebase" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -s f -l format -d 'The images\' format, qcow2 or raw; detected from their first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -l from -d 'Show the results in this file: what \'check --output json\' or \'ndjson\' printed, or what \'--since\' recorded. With HOST= before it they are of that host. Several results of an image of one host are its history. - is standard input' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -l files-from -d 'Show also the images that this file names, one a line or with a zero byte after each; - is standard input' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -s o -l output-file -d 'Write the page to this file, whole or not at all, instead of standard output' -r -F
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -s j -l jobs -d 'Check this many images at a time, 1 if not given; 0: one for each processor' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -s U -l force-share -d 'Read the images even if another program has them open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -s f -l format -d 'The image\'s format, qcow2, raw or luks; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l preallocation -d 'What to do for the new part of the disk: nothing (off), map it (metadata), map it and reserve its space (falloc), or map it and fill it with zeroes (full)' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l backing-format -d 'The format of backing files for which an image records none, qcow2 or raw; without this such a file is raw, or refused where it begins like an image' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l shrink -d 'Allow the disk to get shorter: the data past its new end is lost'
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l dry-run -d 'Report the data that a shorter disk would lose, and change nothing'
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -s q -l quiet -d 'Print nothing on success'
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand resize" -s h -l help -d 'Print help'
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s f -l format -d 'The image\'s format, qcow2 or raw; detected from its first bytes if not given' -r -f -a "raw\t''
qcow2\t''"
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s c -l create -d 'Create a snapshot of this name' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s a -l apply -d 'Apply the snapshot of this id or name to the disk' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s d -l delete -d 'Delete the snapshot of this name' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l output -d 'How to print the list' -r -f -a "human\t'For people, and scripts that read qemu-img\'s lines'
json\t'For programs'"
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l object -d 'Define a secret: secret,id=NAME,file=FILE; options of images name it' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s l -l list -d 'List the snapshots; this is what is done if nothing else is requested'
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s q -l quiet -d 'Accepted as by qemu-img: only a list prints anything'
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l image-opts -d 'Take the image as options, as in driver=qcow2,file.filename=NAME'
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s U -l force-share -d 'List even if another program has the image open for writing'
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -l color -d 'When output has colours' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set; also elsewhere if CLICOLOR_FORCE is'
always\t'Wherever it goes'
never\t'Nowhere'"
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -l timeout -d 'How long a server has for an answer' -r
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -l force -d 'Put the bytes back even if the image has changed since; the result may be inconsistent'
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -s q -l quiet -d 'Print nothing on success'
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -s p -l progress -d 'Show progress even where standard error is not a terminal'
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -l allow-remote-names -d 'Open remote files too where an image names them as its backing file or data file'
complete -c qcheck -n "__fish_qcheck_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "amend" -d 'Change options of an image: its version, its refcounts, its size, its passphrases'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "bitmap" -d 'Change a persistent bitmap of an image; all actions are done in their order, as one change'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "check" -d 'Check qcow2 images, and repair one with -r'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "commit" -d 'Bring the data of an image into its backing file, and empty the image'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "compact" -d 'Make the file of an image shorter, in place, and keep all that it holds'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "compare" -d 'Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments, 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "convert" -d 'Copy one or several disks into one image, qcow2 or raw'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "create" -d 'Create a new image: qcow2, raw or LUKS'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "dd" -d 'Copy blocks of a disk into a new image'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "dump" -d 'Copy an image\'s metadata for a bug report: a check of the copy finds the same, and it holds no guest data'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "info" -d 'Show what an image is: format, sizes, snapshots, bitmaps'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "map" -d 'Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "measure" -d 'Calculate the length of a new image\'s file'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "rebase" -d 'Give an image another backing file, or none, and keep what a guest reads'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "report" -d 'Check images and write one HTML page about them, or about results of other runs: verdicts, findings and what they mean, layout, contents, snapshots, backing chain'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "resize" -d 'Resize the disk of an image; --shrink allows a smaller one'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "snapshot" -d 'List, create, apply or delete the snapshots of an image'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "undo" -d 'Undo a repair: put back every byte that \'check -r .. --undo FILE\' recorded before it wrote'
complete -c qcheck -n "__fish_qcheck_using_subcommand help; and not __fish_seen_subcommand_from amend bitmap check commit compact compare convert create dd dump info map measure rebase report resize snapshot undo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
function __fish_qcheck_snapshots
    for word in (commandline -opc)
        test -f $word; or continue
        qcheck snapshot -l --output json -- $word 2>/dev/null |
            string replace -rf '^ *"name": "([^"\\\\]*)",?$' '$1'
    end
end
complete -c qcheck -n "__fish_qcheck_using_subcommand convert" -l source-snapshot -s l -s s -x -a "(__fish_qcheck_snapshots)"
complete -c qcheck -n "__fish_qcheck_using_subcommand measure" -l snapshot -s l -x -a "(__fish_qcheck_snapshots)"
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l apply -s a -x -a "(__fish_qcheck_snapshots)"
complete -c qcheck -n "__fish_qcheck_using_subcommand snapshot" -l delete -s d -x -a "(__fish_qcheck_snapshots)"
