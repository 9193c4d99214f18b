
use builtin;
use str;

set edit:completion:arg-completer[qcheck] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'qcheck'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'qcheck'= {
            cand --color 'When output has colours'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand amend 'Change options of an image: its version, its refcounts, its size, its passphrases'
            cand bitmap 'Change a persistent bitmap of an image; all actions are done in their order, as one change'
            cand check 'Check qcow2 images, and repair one with -r'
            cand commit 'Bring the data of an image into its backing file, and empty the image'
            cand compare 'Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments, 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read'
            cand convert 'Copy one or several disks into one image, qcow2 or raw'
            cand create 'Create a new image: qcow2, raw or LUKS'
            cand dd 'Copy blocks of a disk into a new image'
            cand dump 'Copy an image''s metadata for a bug report: a check of the copy finds the same, and it holds no guest data'
            cand info 'Show what an image is: format, sizes, snapshots, bitmaps'
            cand map 'Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are'
            cand measure 'Calculate the length of a new image''s file'
            cand rebase 'Give an image another backing file, or none, and keep what a guest reads'
            cand resize 'Resize the disk of an image; --shrink allows a smaller one'
            cand snapshot 'List, create, apply or delete the snapshots of an image'
            cand undo 'Undo a repair: put back every byte that ''check -r .. --undo FILE'' recorded before it wrote'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'qcheck;amend'= {
            cand -f 'The image''s format, qcow2 or luks; detected from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or luks; detected from its first bytes if not given'
            cand -o 'Options of the image, as name=value,...; "help" lists them'
            cand --options 'Options of the image, as name=value,...; "help" lists them'
            cand -t 'How the image is written: writeback, writethrough, none, directsync or unsafe'
            cand --cache 'How the image is written: writeback, writethrough, none, directsync or unsafe'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand --force 'The disk may get shorter, and loses the data past its new end; a key slot in use may be overwritten, and the last one erased, so that nothing opens the image any more'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -p 'Show the progress'
            cand --progress 'Show the progress'
            cand -q 'Print nothing but errors'
            cand --quiet 'Print nothing but errors'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;bitmap'= {
            cand -f 'The image''s format; only qcow2 has bitmaps; detected from its first bytes if not given'
            cand --format 'The image''s format; only qcow2 has bitmaps; detected from its first bytes if not given'
            cand --merge 'Set the bits of the bitmap of this name too'
            cand -g 'With --add: guest bytes for each bit, a power of two from 512 to 2G; by default, and with 0, the cluster size, at least 4k and at most 64k'
            cand --granularity 'With --add: guest bytes for each bit, a power of two from 512 to 2G; by default, and with 0, the cluster size, at least 4k and at most 64k'
            cand -b 'With --merge: the image that has the bitmaps to merge'
            cand --source-file 'With --merge: the image that has the bitmaps to merge'
            cand -F 'The format of the image of -b, qcow2 or raw; detected from its first bytes if not given'
            cand --source-format 'The format of the image of -b, qcow2 or raw; detected from its first bytes if not given'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand --add 'Add a bitmap, which records writes'
            cand --remove 'Remove the bitmap, also one that was left in use'
            cand --clear 'Clear all bits'
            cand --enable 'Record writes from now on'
            cand --disable 'Record no writes from now on'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -p 'Show the progress'
            cand --progress 'Show the progress'
            cand -q 'Print nothing but errors'
            cand --quiet 'Print nothing but errors'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;check'= {
            cand -f 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand -r 'Repair refcounts that are too high (leaks), or everything that can be repaired (all); --repair alone means all'
            cand --repair 'Repair refcounts that are too high (leaks), or everything that can be repaired (all); --repair alone means all'
            cand --undo 'Record in this new file what a repair overwrites, before it does, so that ''undo'' can put it back'
            cand --reattach 'With -r all: put lost L2 tables back, each that only one L1 entry can have pointed to; or the table in this cluster into this L1 entry, of the snapshot with this ID if @ID follows. A check names tables and entries'
            cand --hint-size 'Use this size of the virtual disk in place of a damaged header''s'
            cand --hint-cluster-size 'Use this cluster size in place of a damaged header''s'
            cand --hint-backing 'Record this backing file where the header is rebuilt from nothing'
            cand --hint-backing-format 'The format of that backing file'
            cand --hint-data-file 'Record this external data file where the header is rebuilt from nothing'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --output 'How to print the result'
            cand -T 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe'
            cand --cache 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe'
            cand --max-findings 'Print at most this many findings and sum up the rest by kind; 0 prints all [default: 1000; 100000 lines into a file or pipe]'
            cand --files-from 'Check also the images that this file names, one a line or with a zero byte after each; - is standard input'
            cand -j 'Check this many images at a time, 1 if not given; 0: one for each processor. The form of the output is that of several images'
            cand --jobs 'Check this many images at a time, 1 if not given; 0: one for each processor. The form of the output is that of several images'
            cand --policy 'Deny what an image from an untrusted source should not have: every word of --deny but ''compressed'''
            cand --deny 'Deny these features; exit code 4 for an image that has one'
            cand --allow 'Take words back from --policy and --deny'
            cand --max-virtual-size 'Deny disks of more bytes than this, for example 100G'
            cand --max-ratio 'Deny images that hold more than N bytes of guest data for each byte of their file'
            cand --digest 'Print a digest of the disk as a guest sees it, and of each snapshot''s: the same for each format'
            cand --color 'When output has colours'
            cand --dry-run 'Print what a repair would write, and write nothing; the exit code is that of the check'
            cand --allow-data-loss 'With -r all: drop what cannot be repaired, that is mappings that point to nothing and snapshots and bitmaps that cannot be read, and release what may have belonged to them'
            cand --image-opts 'Take the images as options, as in driver=qcow2,file.filename=NAME'
            cand --explain 'Explain each kind of finding: what it means, what to do, and which guest data it affects'
            cand -q 'Print no result; findings still go to standard error'
            cand --quiet 'Print no result; findings still go to standard error'
            cand -p 'Show progress even where standard error is not a terminal'
            cand --progress 'Show progress even where standard error is not a terminal'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand --backing-chain 'Check the backing files of the images too, each once'
            cand --data 'Read and decompress all guest data, of snapshots too, and the data of bitmaps, and look whether the external data file and all backing files are there'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;commit'= {
            cand -f 'The image''s format, qcow2 or raw; probed from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; probed from its first bytes if not given'
            cand -b 'Commit to this image of the backing chain instead of the backing file: its name as the image that refers to it has it, or its path; implies --drop'
            cand --base 'Commit to this image of the backing chain instead of the backing file: its name as the image that refers to it has it, or its path; implies --drop'
            cand -r 'Most bytes a second'
            cand --rate 'Most bytes a second'
            cand -t 'How the images are written: writeback, writethrough, none, directsync or unsafe'
            cand --cache 'How the images are written: writeback, writethrough, none, directsync or unsafe'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand -d 'Do not empty the image'
            cand --drop 'Do not empty the image'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -p 'Show the progress'
            cand --progress 'Show the progress'
            cand -q 'Print nothing but errors'
            cand --quiet 'Print nothing but errors'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;compare'= {
            cand -f 'The format of the first image, qcow2 or raw; detected from its first bytes if not given'
            cand --a-format 'The format of the first image, qcow2 or raw; detected from its first bytes if not given'
            cand -F 'The format of the second image'
            cand --b-format 'The format of the second image'
            cand -T 'How the images are read: writeback, writethrough, none, directsync or unsafe'
            cand --cache 'How the images are read: writeback, writethrough, none, directsync or unsafe'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand -s 'Also compare the sizes, and which ranges the images record as data, zeroes or nothing'
            cand --strict 'Also compare the sizes, and which ranges the images record as data, zeroes or nothing'
            cand --image-opts 'Take the images as options, as in driver=qcow2,file.filename=NAME'
            cand -U 'Read the images even if another program has them open for writing'
            cand --force-share 'Read the images even if another program has them open for writing'
            cand -p 'Show the progress'
            cand --progress 'Show the progress'
            cand -q 'Print nothing but errors'
            cand --quiet 'Print nothing but errors'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;convert'= {
            cand -f 'The format of the sources, qcow2 or raw; detected from their first bytes if not given'
            cand --source-format 'The format of the sources, qcow2 or raw; detected from their first bytes if not given'
            cand -O 'The format of the target'
            cand --target-format 'The format of the target'
            cand -o 'Options of the target''s format, as name=value,...; "help" lists them'
            cand --target-options 'Options of the target''s format, as name=value,...; "help" lists them'
            cand -B 'Give the target this backing file, and store only what differs from it'
            cand --backing 'Give the target this backing file, and store only what differs from it'
            cand -F 'The format of the backing file'
            cand --backing-format 'The format of the backing file'
            cand --source-backing-format 'The format of backing files of the sources for which an image records none, qcow2 or raw; without this such a file is raw, or refused where it begins like an image'
            cand -l 'Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..'
            cand --source-snapshot 'Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..'
            cand -s 'Read the snapshot of this id or name'
            cand -S 'Store no run of zeroes from this many bytes on; 0 stores all'
            cand --sparse-size 'Store no run of zeroes from this many bytes on; 0 stores all'
            cand -m 'The number of threads, 1 to 16; one for each core if not given'
            cand --parallel 'The number of threads, 1 to 16; one for each core if not given'
            cand -t 'How the target is written: writeback, writethrough, none, directsync or unsafe'
            cand --target-cache 'How the target is written: writeback, writethrough, none, directsync or unsafe'
            cand -T 'How the sources are read, likewise'
            cand --source-cache 'How the sources are read, likewise'
            cand -r 'Limit the bytes per second'
            cand --rate 'Limit the bytes per second'
            cand --output 'The format of the report of what was lost (--salvage)'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand -c 'Compress the target''s clusters'
            cand --compress 'Compress the target''s clusters'
            cand -W 'Accepted as by qemu-img: writes are never in order, and the target looks the same every time'
            cand --oob-writes 'Accepted as by qemu-img: writes are never in order, and the target looks the same every time'
            cand -n 'Write into an existing image'
            cand --no-create 'Write into an existing image'
            cand --target-is-zero 'Assume that the existing target reads as zeroes'
            cand -C 'Let the system copy data from file to file where it can'
            cand --copy-range-offloading 'Let the system copy data from file to file where it can'
            cand --salvage 'Write zeroes for what cannot be read, and report it'
            cand --bitmaps 'Copy the persistent bitmaps, too'
            cand --skip-broken-bitmaps 'Leave out bitmaps that are in use or inconsistent'
            cand --verify 'Read both sides again afterwards, and compare'
            cand --image-opts 'Take the sources as options, as in driver=qcow2,file.filename=NAME'
            cand --target-image-opts 'Take the target, which exists (-n), as options'
            cand -U 'Read the sources even if another program has them open for writing'
            cand --force-share 'Read the sources even if another program has them open for writing'
            cand -p 'Show the progress'
            cand --progress 'Show the progress'
            cand -q 'Show no progress and no losses'
            cand --quiet 'Show no progress and no losses'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;create'= {
            cand -f 'The new image''s format: qcow2, raw or luks'
            cand --format 'The new image''s format: qcow2, raw or luks'
            cand -o 'Options of the format, as name=value,...; "help" lists them'
            cand --options 'Options of the format, as name=value,...; "help" lists them'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand -b 'The file that has what the new image does not have'
            cand --backing 'The file that has what the new image does not have'
            cand -F 'The format of the backing file'
            cand --backing-format 'The format of the backing file'
            cand --color 'When output has colours'
            cand -u 'Do not open the backing file'
            cand --backing-unsafe 'Do not open the backing file'
            cand -q 'Do not print what is created'
            cand --quiet 'Do not print what is created'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;dd'= {
            cand -f 'The format of the disk that is read, qcow2 or raw; detected from its first bytes if not given'
            cand --format 'The format of the disk that is read, qcow2 or raw; detected from its first bytes if not given'
            cand -O 'The format of the new image'
            cand --output-format 'The format of the new image'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand --image-opts 'Take the disk that is read as options, as in driver=qcow2,file.filename=NAME'
            cand -U 'Read the disk even if another program has it open for writing'
            cand --force-share 'Read the disk even if another program has it open for writing'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;dump'= {
            cand -f 'The image''s format; detected from its first bytes if not given'
            cand --format 'The image''s format; detected from its first bytes if not given'
            cand --color 'When output has colours'
            cand --blank-names 'Overwrite the names of files, snapshots and bitmaps with others of the same length'
            cand --keep-slack 'Keep the unused rest of metadata clusters, which may hold former guest data'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand -q 'Print no result'
            cand --quiet 'Print no result'
            cand -p 'Show progress even where standard error is not a terminal'
            cand --progress 'Show progress even where standard error is not a terminal'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;info'= {
            cand -f 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand --output 'How to print the result'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand -b 'Show the backing file too, and its backing file, and so on'
            cand --backing-chain 'Show the backing file too, and its backing file, and so on'
            cand --metadata 'Show every header field and every table with its offset, and which bytes of the file are for what; not together with --layout'
            cand --layout 'Draw the layout of the file and the allocation of the disk; with --output json print runs; not together with --metadata'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;map'= {
            cand -f 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand --output 'How to print the result; for people, only data is printed'
            cand -s 'Begin at this guest offset'
            cand --start-offset 'Begin at this guest offset'
            cand -l 'End after this many bytes'
            cand --max-length 'End after this many bytes'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;measure'= {
            cand -f 'The format of the image that is measured, qcow2 or raw; detected from its first bytes if not given'
            cand --format 'The format of the image that is measured, qcow2 or raw; detected from its first bytes if not given'
            cand -O 'The format of the new image'
            cand --target-format 'The format of the new image'
            cand -o 'Options of the new image, as name=value,...; "help" lists them'
            cand --options 'Options of the new image, as name=value,...; "help" lists them'
            cand -s 'Measure a new image of this size without data'
            cand --size 'Measure a new image of this size without data'
            cand -l 'Measure this snapshot of the image: its id or name, or snapshot.id=..,snapshot.name=..'
            cand --snapshot 'Measure this snapshot of the image: its id or name, or snapshot.id=..,snapshot.name=..'
            cand --output 'How to print the result'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;rebase'= {
            cand -f 'The image''s format, qcow2 or raw; probed from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; probed from its first bytes if not given'
            cand -b 'The new backing file, relative to the folder of the image; '''' for none'
            cand --backing 'The new backing file, relative to the folder of the image; '''' for none'
            cand -F 'The format of the new backing file'
            cand --backing-format 'The format of the new backing file'
            cand -t 'How the image is written: writeback, writethrough, none, directsync or unsafe'
            cand --cache 'How the image is written: writeback, writethrough, none, directsync or unsafe'
            cand -T 'How the new backing file is read, likewise'
            cand --backing-cache 'How the new backing file is read, likewise'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand -u 'Only record the backing file: look at no data, and open neither the old nor the new one'
            cand --backing-unsafe 'Only record the backing file: look at no data, and open neither the old nor the new one'
            cand -c 'Compress the clusters that the image gets'
            cand --compress 'Compress the clusters that the image gets'
            cand -U 'Read backing files even if another program has them open for writing'
            cand --force-share 'Read backing files even if another program has them open for writing'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -p 'Show the progress'
            cand --progress 'Show the progress'
            cand -q 'Print nothing but errors'
            cand --quiet 'Print nothing but errors'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;resize'= {
            cand -f 'The image''s format, qcow2, raw or luks; detected from its first bytes if not given'
            cand --format 'The image''s format, qcow2, raw or luks; detected from its first bytes if not given'
            cand --preallocation 'What to do for the new part of the disk: nothing (off), map it (metadata), map it and reserve its space (falloc), or map it and fill it with zeroes (full)'
            cand --backing-format 'The format of backing files for which an image records none, qcow2 or raw; without this such a file is raw, or refused where it begins like an image'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand --shrink 'Allow the disk to get shorter: the data past its new end is lost'
            cand --dry-run 'Report the data that a shorter disk would lose, and change nothing'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -q 'Print nothing on success'
            cand --quiet 'Print nothing on success'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;snapshot'= {
            cand -f 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; detected from its first bytes if not given'
            cand -c 'Create a snapshot of this name'
            cand --create 'Create a snapshot of this name'
            cand -a 'Apply the snapshot of this id or name to the disk'
            cand --apply 'Apply the snapshot of this id or name to the disk'
            cand -d 'Delete the snapshot of this name'
            cand --delete 'Delete the snapshot of this name'
            cand --output 'How to print the list'
            cand --object 'Define a secret: secret,id=NAME,file=FILE; options of images name it'
            cand --color 'When output has colours'
            cand -l 'List the snapshots; this is what is done if nothing else is requested'
            cand --list 'List the snapshots; this is what is done if nothing else is requested'
            cand -q 'Accepted as by qemu-img: only a list prints anything'
            cand --quiet 'Accepted as by qemu-img: only a list prints anything'
            cand --image-opts 'Take the image as options, as in driver=qcow2,file.filename=NAME'
            cand -U 'List even if another program has the image open for writing'
            cand --force-share 'List even if another program has the image open for writing'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;undo'= {
            cand --color 'When output has colours'
            cand --force 'Put the bytes back even if the image has changed since; the result may be inconsistent'
            cand -q 'Print nothing on success'
            cand --quiet 'Print nothing on success'
            cand -p 'Show progress even where standard error is not a terminal'
            cand --progress 'Show progress even where standard error is not a terminal'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;help'= {
            cand amend 'Change options of an image: its version, its refcounts, its size, its passphrases'
            cand bitmap 'Change a persistent bitmap of an image; all actions are done in their order, as one change'
            cand check 'Check qcow2 images, and repair one with -r'
            cand commit 'Bring the data of an image into its backing file, and empty the image'
            cand compare 'Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments, 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read'
            cand convert 'Copy one or several disks into one image, qcow2 or raw'
            cand create 'Create a new image: qcow2, raw or LUKS'
            cand dd 'Copy blocks of a disk into a new image'
            cand dump 'Copy an image''s metadata for a bug report: a check of the copy finds the same, and it holds no guest data'
            cand info 'Show what an image is: format, sizes, snapshots, bitmaps'
            cand map 'Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are'
            cand measure 'Calculate the length of a new image''s file'
            cand rebase 'Give an image another backing file, or none, and keep what a guest reads'
            cand resize 'Resize the disk of an image; --shrink allows a smaller one'
            cand snapshot 'List, create, apply or delete the snapshots of an image'
            cand undo 'Undo a repair: put back every byte that ''check -r .. --undo FILE'' recorded before it wrote'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'qcheck;help;amend'= {
        }
        &'qcheck;help;bitmap'= {
        }
        &'qcheck;help;check'= {
        }
        &'qcheck;help;commit'= {
        }
        &'qcheck;help;compare'= {
        }
        &'qcheck;help;convert'= {
        }
        &'qcheck;help;create'= {
        }
        &'qcheck;help;dd'= {
        }
        &'qcheck;help;dump'= {
        }
        &'qcheck;help;info'= {
        }
        &'qcheck;help;map'= {
        }
        &'qcheck;help;measure'= {
        }
        &'qcheck;help;rebase'= {
        }
        &'qcheck;help;resize'= {
        }
        &'qcheck;help;snapshot'= {
        }
        &'qcheck;help;undo'= {
        }
        &'qcheck;help;help'= {
        }
    ]
    $completions[$command]
}
