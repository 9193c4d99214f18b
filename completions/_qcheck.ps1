
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'qcheck' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'qcheck'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'qcheck' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('amend', 'amend', [CompletionResultType]::ParameterValue, 'Change options of an image: its version, its refcounts, its size, its passphrases')
            [CompletionResult]::new('bitmap', 'bitmap', [CompletionResultType]::ParameterValue, 'Change a persistent bitmap of an image; all actions are done in their order, as one change')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check qcow2 images, and repair one with -r')
            [CompletionResult]::new('commit', 'commit', [CompletionResultType]::ParameterValue, 'Bring the data of an image into its backing file, and empty the image')
            [CompletionResult]::new('compact', 'compact', [CompletionResultType]::ParameterValue, 'Make the file of an image shorter, in place, and keep all that it holds')
            [CompletionResult]::new('compare', 'compare', [CompletionResultType]::ParameterValue, 'Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments, 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read')
            [CompletionResult]::new('convert', 'convert', [CompletionResultType]::ParameterValue, 'Copy one or several disks into one image, qcow2 or raw')
            [CompletionResult]::new('create', 'create', [CompletionResultType]::ParameterValue, 'Create a new image: qcow2, raw or LUKS')
            [CompletionResult]::new('dd', 'dd', [CompletionResultType]::ParameterValue, 'Copy blocks of a disk into a new image')
            [CompletionResult]::new('dump', 'dump', [CompletionResultType]::ParameterValue, 'Copy an image''s metadata for a bug report: a check of the copy finds the same, and it holds no guest data')
            [CompletionResult]::new('info', 'info', [CompletionResultType]::ParameterValue, 'Show what an image is: format, sizes, snapshots, bitmaps')
            [CompletionResult]::new('map', 'map', [CompletionResultType]::ParameterValue, 'Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are')
            [CompletionResult]::new('measure', 'measure', [CompletionResultType]::ParameterValue, 'Calculate the length of a new image''s file')
            [CompletionResult]::new('rebase', 'rebase', [CompletionResultType]::ParameterValue, 'Give an image another backing file, or none, and keep what a guest reads')
            [CompletionResult]::new('report', 'report', [CompletionResultType]::ParameterValue, 'Check images and write one HTML page about them, or about results of other runs: verdicts, findings and what they mean, layout, contents, snapshots, backing chain')
            [CompletionResult]::new('resize', 'resize', [CompletionResultType]::ParameterValue, 'Resize the disk of an image; --shrink allows a smaller one')
            [CompletionResult]::new('snapshot', 'snapshot', [CompletionResultType]::ParameterValue, 'List, create, apply or delete the snapshots of an image')
            [CompletionResult]::new('undo', 'undo', [CompletionResultType]::ParameterValue, 'Undo a repair: put back every byte that ''check -r .. --undo FILE'' recorded before it wrote')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'qcheck;amend' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or luks; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or luks; detected from its first bytes if not given')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Options of the image, as name=value,...; "help" lists them')
            [CompletionResult]::new('--options', '--options', [CompletionResultType]::ParameterName, 'Options of the image, as name=value,...; "help" lists them')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'How the image is written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--cache', '--cache', [CompletionResultType]::ParameterName, 'How the image is written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'The disk may get shorter, and loses the data past its new end; a key slot in use may be overwritten, and the last one erased, so that nothing opens the image any more')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;bitmap' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format; only qcow2 has bitmaps; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format; only qcow2 has bitmaps; detected from its first bytes if not given')
            [CompletionResult]::new('--merge', '--merge', [CompletionResultType]::ParameterName, 'Set the bits of the bitmap of this name too')
            [CompletionResult]::new('-g', '-g', [CompletionResultType]::ParameterName, 'With --add: guest bytes for each bit, a power of two from 512 to 2G; by default, and with 0, the cluster size, at least 4k and at most 64k')
            [CompletionResult]::new('--granularity', '--granularity', [CompletionResultType]::ParameterName, 'With --add: guest bytes for each bit, a power of two from 512 to 2G; by default, and with 0, the cluster size, at least 4k and at most 64k')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'With --merge: the image that has the bitmaps to merge')
            [CompletionResult]::new('--source-file', '--source-file', [CompletionResultType]::ParameterName, 'With --merge: the image that has the bitmaps to merge')
            [CompletionResult]::new('-F', '-F ', [CompletionResultType]::ParameterName, 'The format of the image of -b, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--source-format', '--source-format', [CompletionResultType]::ParameterName, 'The format of the image of -b, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--add', '--add', [CompletionResultType]::ParameterName, 'Add a bitmap, which records writes')
            [CompletionResult]::new('--remove', '--remove', [CompletionResultType]::ParameterName, 'Remove the bitmap, also one that was left in use')
            [CompletionResult]::new('--clear', '--clear', [CompletionResultType]::ParameterName, 'Clear all bits')
            [CompletionResult]::new('--enable', '--enable', [CompletionResultType]::ParameterName, 'Record writes from now on')
            [CompletionResult]::new('--disable', '--disable', [CompletionResultType]::ParameterName, 'Record no writes from now on')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;check' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Repair refcounts that are too high (leaks), or everything that can be repaired (all); --repair alone means all')
            [CompletionResult]::new('--repair', '--repair', [CompletionResultType]::ParameterName, 'Repair refcounts that are too high (leaks), or everything that can be repaired (all); --repair alone means all')
            [CompletionResult]::new('--undo', '--undo', [CompletionResultType]::ParameterName, 'Record in this new file what a repair overwrites, before it does, so that ''undo'' can put it back')
            [CompletionResult]::new('--reattach', '--reattach', [CompletionResultType]::ParameterName, 'With -r all: put lost L2 tables back, each that only one L1 entry can have pointed to; or the table in this cluster into this L1 entry, of the snapshot with this ID if @ID follows. A check names tables and entries')
            [CompletionResult]::new('--hint-size', '--hint-size', [CompletionResultType]::ParameterName, 'Use this size of the virtual disk in place of a damaged header''s')
            [CompletionResult]::new('--hint-cluster-size', '--hint-cluster-size', [CompletionResultType]::ParameterName, 'Use this cluster size in place of a damaged header''s')
            [CompletionResult]::new('--hint-backing', '--hint-backing', [CompletionResultType]::ParameterName, 'Record this backing file where the header is rebuilt from nothing')
            [CompletionResult]::new('--hint-backing-format', '--hint-backing-format', [CompletionResultType]::ParameterName, 'The format of that backing file')
            [CompletionResult]::new('--hint-data-file', '--hint-data-file', [CompletionResultType]::ParameterName, 'Record this external data file where the header is rebuilt from nothing')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('--output-file', '--output-file', [CompletionResultType]::ParameterName, 'Write the result to this file instead, whole or not at all')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe')
            [CompletionResult]::new('--cache', '--cache', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe')
            [CompletionResult]::new('--max-findings', '--max-findings', [CompletionResultType]::ParameterName, 'Print at most this many findings and sum up the rest by kind; 0 prints all [default: 1000; 100000 lines into a file or pipe]')
            [CompletionResult]::new('--files-from', '--files-from', [CompletionResultType]::ParameterName, 'Check also the images that this file names, one a line or with a zero byte after each; - is standard input')
            [CompletionResult]::new('-j', '-j', [CompletionResultType]::ParameterName, 'Check this many images at a time, 1 if not given; 0: one for each processor. The form of the output is that of several images')
            [CompletionResult]::new('--jobs', '--jobs', [CompletionResultType]::ParameterName, 'Check this many images at a time, 1 if not given; 0: one for each processor. The form of the output is that of several images')
            [CompletionResult]::new('--shard', '--shard', [CompletionResultType]::ParameterName, 'Check only part I of N of the images: the name alone, as given, decides to which part an image belongs. A part without images is a success')
            [CompletionResult]::new('--since', '--since', [CompletionResultType]::ParameterName, 'Do not check images again that were clean when an earlier run recorded them in this file, and whose length, time and header are the same; they count as clean. The file is replaced at the end; at first it need not exist')
            [CompletionResult]::new('--policy', '--policy', [CompletionResultType]::ParameterName, 'Deny what an image from an untrusted source should not have: every word of --deny but ''compressed''')
            [CompletionResult]::new('--deny', '--deny', [CompletionResultType]::ParameterName, 'Deny these features; exit code 4 for an image that has one')
            [CompletionResult]::new('--allow', '--allow', [CompletionResultType]::ParameterName, 'Take words back from --policy and --deny')
            [CompletionResult]::new('--max-virtual-size', '--max-virtual-size', [CompletionResultType]::ParameterName, 'Deny disks of more bytes than this, for example 100G')
            [CompletionResult]::new('--max-ratio', '--max-ratio', [CompletionResultType]::ParameterName, 'Deny images that hold more than N bytes of guest data for each byte of their file')
            [CompletionResult]::new('--digest', '--digest', [CompletionResultType]::ParameterName, 'Print a digest of the disk as a guest sees it, and of each snapshot''s: the same for each format')
            [CompletionResult]::new('--live-rounds', '--live-rounds', [CompletionResultType]::ParameterName, 'Read what is suspected so often before it counts, with pauses of 5 ms and then twice as long each [default: 8, which takes 1.3 s]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Print what a repair would write, and write nothing; the exit code is that of the check')
            [CompletionResult]::new('--allow-data-loss', '--allow-data-loss', [CompletionResultType]::ParameterName, 'With -r all: drop what cannot be repaired, that is mappings that point to nothing and snapshots and bitmaps that cannot be read, and release what may have belonged to them')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the images as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('--explain', '--explain', [CompletionResultType]::ParameterName, 'Explain each kind of finding: what it means, what to do, and which guest data it affects, by partition and file system, for which the backing files are read too')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print no result; findings still go to standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print no result; findings still go to standard error')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show progress even where standard error is not a terminal')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress even where standard error is not a terminal')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--backing-chain', '--backing-chain', [CompletionResultType]::ParameterName, 'Check the backing files of the images too, each once')
            [CompletionResult]::new('--data', '--data', [CompletionResultType]::ParameterName, 'Read and decompress all guest data, of snapshots too, and the data of bitmaps, and look whether the external data file and all backing files are there')
            [CompletionResult]::new('--live', '--live', [CompletionResultType]::ParameterName, 'Check an image that a running machine is writing: what is found is read again, what vanishes is not reported, and what cannot be decided is a notice. Implies -U')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;commit' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; probed from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; probed from its first bytes if not given')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'Commit to this image of the backing chain instead of the backing file: its name as the image that refers to it has it, or its path; implies --drop')
            [CompletionResult]::new('--base', '--base', [CompletionResultType]::ParameterName, 'Commit to this image of the backing chain instead of the backing file: its name as the image that refers to it has it, or its path; implies --drop')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Most bytes a second')
            [CompletionResult]::new('--rate', '--rate', [CompletionResultType]::ParameterName, 'Most bytes a second')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'How the images are written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--cache', '--cache', [CompletionResultType]::ParameterName, 'How the images are written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'Do not empty the image')
            [CompletionResult]::new('--drop', '--drop', [CompletionResultType]::ParameterName, 'Do not empty the image')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;compact' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, which must be qcow2; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, which must be qcow2; detected from its first bytes if not given')
            [CompletionResult]::new('--compress', '--compress', [CompletionResultType]::ParameterName, 'Store guest data compressed too, of the disk and of all snapshots, by the method that the image records or by this one')
            [CompletionResult]::new('--until', '--until', [CompletionResultType]::ParameterName, 'Stop where the file is no longer than SIZE')
            [CompletionResult]::new('--target-size', '--target-size', [CompletionResultType]::ParameterName, 'Move everything below SIZE, so that a volume can be cut to that size; where that is not possible, change nothing')
            [CompletionResult]::new('--max-moves', '--max-moves', [CompletionResultType]::ParameterName, 'Move at most so many bytes')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Move at most so many bytes a second')
            [CompletionResult]::new('--rate', '--rate', [CompletionResultType]::ParameterName, 'Move at most so many bytes a second')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--zeroes', '--zeroes', [CompletionResultType]::ParameterName, 'Free guest clusters that hold only zeroes too, of the disk and of all snapshots')
            [CompletionResult]::new('--defragment', '--defragment', [CompletionResultType]::ParameterName, 'Put data in the order of the guest too, and metadata together at the front')
            [CompletionResult]::new('--punch-only', '--punch-only', [CompletionResultType]::ParameterName, 'Move nothing: make holes of free clusters, and cut off the free end of the file')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Report what would be done, exactly, and change nothing')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;compare' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The format of the first image, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--a-format', '--a-format', [CompletionResultType]::ParameterName, 'The format of the first image, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('-F', '-F ', [CompletionResultType]::ParameterName, 'The format of the second image')
            [CompletionResult]::new('--b-format', '--b-format', [CompletionResultType]::ParameterName, 'The format of the second image')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'How the images are read: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--cache', '--cache', [CompletionResultType]::ParameterName, 'How the images are read: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Also compare the sizes, and which ranges the images record as data, zeroes or nothing')
            [CompletionResult]::new('--strict', '--strict', [CompletionResultType]::ParameterName, 'Also compare the sizes, and which ranges the images record as data, zeroes or nothing')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the images as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the images even if another program has them open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the images even if another program has them open for writing')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;convert' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The format of the sources, qcow2 or raw; detected from their first bytes if not given')
            [CompletionResult]::new('--source-format', '--source-format', [CompletionResultType]::ParameterName, 'The format of the sources, qcow2 or raw; detected from their first bytes if not given')
            [CompletionResult]::new('-O', '-O ', [CompletionResultType]::ParameterName, 'The format of the target')
            [CompletionResult]::new('--target-format', '--target-format', [CompletionResultType]::ParameterName, 'The format of the target')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Options of the target''s format, as name=value,...; "help" lists them')
            [CompletionResult]::new('--target-options', '--target-options', [CompletionResultType]::ParameterName, 'Options of the target''s format, as name=value,...; "help" lists them')
            [CompletionResult]::new('-B', '-B ', [CompletionResultType]::ParameterName, 'Give the target this backing file, and store only what differs from it')
            [CompletionResult]::new('--backing', '--backing', [CompletionResultType]::ParameterName, 'Give the target this backing file, and store only what differs from it')
            [CompletionResult]::new('-F', '-F ', [CompletionResultType]::ParameterName, 'The format of the backing file')
            [CompletionResult]::new('--backing-format', '--backing-format', [CompletionResultType]::ParameterName, 'The format of the backing file')
            [CompletionResult]::new('--source-backing-format', '--source-backing-format', [CompletionResultType]::ParameterName, 'The format of backing files of the sources for which an image records none, qcow2 or raw; without this such a file is raw, or refused where it begins like an image')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..')
            [CompletionResult]::new('--source-snapshot', '--source-snapshot', [CompletionResultType]::ParameterName, 'Read this snapshot: its id or name, or snapshot.id=..,snapshot.name=..')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Read the snapshot of this id or name')
            [CompletionResult]::new('-S', '-S ', [CompletionResultType]::ParameterName, 'Store no run of zeroes from this many bytes on; 0 stores all')
            [CompletionResult]::new('--sparse-size', '--sparse-size', [CompletionResultType]::ParameterName, 'Store no run of zeroes from this many bytes on; 0 stores all')
            [CompletionResult]::new('-m', '-m', [CompletionResultType]::ParameterName, 'The number of threads, 1 to 16; one for each core if not given')
            [CompletionResult]::new('--parallel', '--parallel', [CompletionResultType]::ParameterName, 'The number of threads, 1 to 16; one for each core if not given')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'How the target is written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--target-cache', '--target-cache', [CompletionResultType]::ParameterName, 'How the target is written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'How the sources are read, likewise')
            [CompletionResult]::new('--source-cache', '--source-cache', [CompletionResultType]::ParameterName, 'How the sources are read, likewise')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Limit the bytes per second')
            [CompletionResult]::new('--rate', '--rate', [CompletionResultType]::ParameterName, 'Limit the bytes per second')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'The format of the report of what was lost (--salvage)')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Compress the target''s clusters')
            [CompletionResult]::new('--compress', '--compress', [CompletionResultType]::ParameterName, 'Compress the target''s clusters')
            [CompletionResult]::new('-W', '-W ', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: writes are never in order, and the target looks the same every time')
            [CompletionResult]::new('--oob-writes', '--oob-writes', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: writes are never in order, and the target looks the same every time')
            [CompletionResult]::new('-n', '-n', [CompletionResultType]::ParameterName, 'Write into an existing image')
            [CompletionResult]::new('--no-create', '--no-create', [CompletionResultType]::ParameterName, 'Write into an existing image')
            [CompletionResult]::new('--target-is-zero', '--target-is-zero', [CompletionResultType]::ParameterName, 'Assume that the existing target reads as zeroes')
            [CompletionResult]::new('-C', '-C ', [CompletionResultType]::ParameterName, 'Let the system copy data from file to file where it can')
            [CompletionResult]::new('--copy-range-offloading', '--copy-range-offloading', [CompletionResultType]::ParameterName, 'Let the system copy data from file to file where it can')
            [CompletionResult]::new('--salvage', '--salvage', [CompletionResultType]::ParameterName, 'Write zeroes for what cannot be read, and report it')
            [CompletionResult]::new('--bitmaps', '--bitmaps', [CompletionResultType]::ParameterName, 'Copy the persistent bitmaps, too')
            [CompletionResult]::new('--skip-broken-bitmaps', '--skip-broken-bitmaps', [CompletionResultType]::ParameterName, 'Leave out bitmaps that are in use or inconsistent')
            [CompletionResult]::new('--verify', '--verify', [CompletionResultType]::ParameterName, 'Read both sides again afterwards, and compare')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the sources as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('--target-image-opts', '--target-image-opts', [CompletionResultType]::ParameterName, 'Take the target, which exists (-n), as options')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the sources even if another program has them open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the sources even if another program has them open for writing')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Show no progress and no losses')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Show no progress and no losses')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;create' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The new image''s format: qcow2, raw or luks')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The new image''s format: qcow2, raw or luks')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Options of the format, as name=value,...; "help" lists them')
            [CompletionResult]::new('--options', '--options', [CompletionResultType]::ParameterName, 'Options of the format, as name=value,...; "help" lists them')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The file that has what the new image does not have')
            [CompletionResult]::new('--backing', '--backing', [CompletionResultType]::ParameterName, 'The file that has what the new image does not have')
            [CompletionResult]::new('-F', '-F ', [CompletionResultType]::ParameterName, 'The format of the backing file')
            [CompletionResult]::new('--backing-format', '--backing-format', [CompletionResultType]::ParameterName, 'The format of the backing file')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'Do not open the backing file')
            [CompletionResult]::new('--backing-unsafe', '--backing-unsafe', [CompletionResultType]::ParameterName, 'Do not open the backing file')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Do not print what is created')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Do not print what is created')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;dd' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The format of the disk that is read, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The format of the disk that is read, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('-O', '-O ', [CompletionResultType]::ParameterName, 'The format of the new image')
            [CompletionResult]::new('--output-format', '--output-format', [CompletionResultType]::ParameterName, 'The format of the new image')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the disk that is read as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the disk even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the disk even if another program has it open for writing')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;dump' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format; detected from its first bytes if not given')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--blank-names', '--blank-names', [CompletionResultType]::ParameterName, 'Overwrite the names of files, snapshots and bitmaps with others of the same length')
            [CompletionResult]::new('--keep-slack', '--keep-slack', [CompletionResultType]::ParameterName, 'Keep the unused rest of metadata clusters, which may hold former guest data')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print no result')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print no result')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show progress even where standard error is not a terminal')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress even where standard error is not a terminal')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;info' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'Show the backing file too, and its backing file, and so on')
            [CompletionResult]::new('--backing-chain', '--backing-chain', [CompletionResultType]::ParameterName, 'Show the backing file too, and its backing file, and so on')
            [CompletionResult]::new('--metadata', '--metadata', [CompletionResultType]::ParameterName, 'Show every header field and every table with its offset, and which bytes of the file are for what; not together with --layout')
            [CompletionResult]::new('--layout', '--layout', [CompletionResultType]::ParameterName, 'Draw the layout of the file and the allocation of the disk; with --output json print runs; not together with --metadata')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;map' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result; for people, only data is printed')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Begin at this guest offset')
            [CompletionResult]::new('--start-offset', '--start-offset', [CompletionResultType]::ParameterName, 'Begin at this guest offset')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'End after this many bytes')
            [CompletionResult]::new('--max-length', '--max-length', [CompletionResultType]::ParameterName, 'End after this many bytes')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;measure' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The format of the image that is measured, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The format of the image that is measured, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('-O', '-O ', [CompletionResultType]::ParameterName, 'The format of the new image')
            [CompletionResult]::new('--target-format', '--target-format', [CompletionResultType]::ParameterName, 'The format of the new image')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Options of the new image, as name=value,...; "help" lists them')
            [CompletionResult]::new('--options', '--options', [CompletionResultType]::ParameterName, 'Options of the new image, as name=value,...; "help" lists them')
            [CompletionResult]::new('-s', '-s', [CompletionResultType]::ParameterName, 'Measure a new image of this size without data')
            [CompletionResult]::new('--size', '--size', [CompletionResultType]::ParameterName, 'Measure a new image of this size without data')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'Measure this snapshot of the image: its id or name, or snapshot.id=..,snapshot.name=..')
            [CompletionResult]::new('--snapshot', '--snapshot', [CompletionResultType]::ParameterName, 'Measure this snapshot of the image: its id or name, or snapshot.id=..,snapshot.name=..')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;rebase' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; probed from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; probed from its first bytes if not given')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The new backing file, relative to the folder of the image; '''' for none')
            [CompletionResult]::new('--backing', '--backing', [CompletionResultType]::ParameterName, 'The new backing file, relative to the folder of the image; '''' for none')
            [CompletionResult]::new('-F', '-F ', [CompletionResultType]::ParameterName, 'The format of the new backing file')
            [CompletionResult]::new('--backing-format', '--backing-format', [CompletionResultType]::ParameterName, 'The format of the new backing file')
            [CompletionResult]::new('-t', '-t', [CompletionResultType]::ParameterName, 'How the image is written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('--cache', '--cache', [CompletionResultType]::ParameterName, 'How the image is written: writeback, writethrough, none, directsync or unsafe')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'How the new backing file is read, likewise')
            [CompletionResult]::new('--backing-cache', '--backing-cache', [CompletionResultType]::ParameterName, 'How the new backing file is read, likewise')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'Only record the backing file: look at no data, and open neither the old nor the new one')
            [CompletionResult]::new('--backing-unsafe', '--backing-unsafe', [CompletionResultType]::ParameterName, 'Only record the backing file: look at no data, and open neither the old nor the new one')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Compress the clusters that the image gets')
            [CompletionResult]::new('--compress', '--compress', [CompletionResultType]::ParameterName, 'Compress the clusters that the image gets')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read backing files even if another program has them open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read backing files even if another program has them open for writing')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show the progress')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing but errors')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;report' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The images'' format, qcow2 or raw; detected from their first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The images'' format, qcow2 or raw; detected from their first bytes if not given')
            [CompletionResult]::new('--from', '--from', [CompletionResultType]::ParameterName, 'Show the results in this file: what ''check --output json'' or ''ndjson'' printed, or what ''--since'' recorded. With HOST= before it they are of that host. Several results of an image of one host are its history. - is standard input')
            [CompletionResult]::new('--files-from', '--files-from', [CompletionResultType]::ParameterName, 'Show also the images that this file names, one a line or with a zero byte after each; - is standard input')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Write the page to this file, whole or not at all, instead of standard output')
            [CompletionResult]::new('--output-file', '--output-file', [CompletionResultType]::ParameterName, 'Write the page to this file, whole or not at all, instead of standard output')
            [CompletionResult]::new('-j', '-j', [CompletionResultType]::ParameterName, 'Check this many images at a time, 1 if not given; 0: one for each processor')
            [CompletionResult]::new('--jobs', '--jobs', [CompletionResultType]::ParameterName, 'Check this many images at a time, 1 if not given; 0: one for each processor')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the images even if another program has them open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the images even if another program has them open for writing')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;resize' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2, raw or luks; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2, raw or luks; detected from its first bytes if not given')
            [CompletionResult]::new('--preallocation', '--preallocation', [CompletionResultType]::ParameterName, 'What to do for the new part of the disk: nothing (off), map it (metadata), map it and reserve its space (falloc), or map it and fill it with zeroes (full)')
            [CompletionResult]::new('--backing-format', '--backing-format', [CompletionResultType]::ParameterName, 'The format of backing files for which an image records none, qcow2 or raw; without this such a file is raw, or refused where it begins like an image')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--shrink', '--shrink', [CompletionResultType]::ParameterName, 'Allow the disk to get shorter: the data past its new end is lost')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Report the data that a shorter disk would lose, and change nothing')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing on success')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing on success')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;snapshot' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; detected from its first bytes if not given')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Create a snapshot of this name')
            [CompletionResult]::new('--create', '--create', [CompletionResultType]::ParameterName, 'Create a snapshot of this name')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Apply the snapshot of this id or name to the disk')
            [CompletionResult]::new('--apply', '--apply', [CompletionResultType]::ParameterName, 'Apply the snapshot of this id or name to the disk')
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'Delete the snapshot of this name')
            [CompletionResult]::new('--delete', '--delete', [CompletionResultType]::ParameterName, 'Delete the snapshot of this name')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the list')
            [CompletionResult]::new('--object', '--object', [CompletionResultType]::ParameterName, 'Define a secret: secret,id=NAME,file=FILE; options of images name it')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'List the snapshots; this is what is done if nothing else is requested')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'List the snapshots; this is what is done if nothing else is requested')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: only a list prints anything')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: only a list prints anything')
            [CompletionResult]::new('--image-opts', '--image-opts', [CompletionResultType]::ParameterName, 'Take the image as options, as in driver=qcow2,file.filename=NAME')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'List even if another program has the image open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'List even if another program has the image open for writing')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;undo' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When output has colours')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long a server has for an answer')
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Put the bytes back even if the image has changed since; the result may be inconsistent')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print nothing on success')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print nothing on success')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show progress even where standard error is not a terminal')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress even where standard error is not a terminal')
            [CompletionResult]::new('--allow-remote-names', '--allow-remote-names', [CompletionResultType]::ParameterName, 'Open remote files too where an image names them as its backing file or data file')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;help' {
            [CompletionResult]::new('amend', 'amend', [CompletionResultType]::ParameterValue, 'Change options of an image: its version, its refcounts, its size, its passphrases')
            [CompletionResult]::new('bitmap', 'bitmap', [CompletionResultType]::ParameterValue, 'Change a persistent bitmap of an image; all actions are done in their order, as one change')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check qcow2 images, and repair one with -r')
            [CompletionResult]::new('commit', 'commit', [CompletionResultType]::ParameterValue, 'Bring the data of an image into its backing file, and empty the image')
            [CompletionResult]::new('compact', 'compact', [CompletionResultType]::ParameterValue, 'Make the file of an image shorter, in place, and keep all that it holds')
            [CompletionResult]::new('compare', 'compare', [CompletionResultType]::ParameterValue, 'Compare what a guest reads from two images. Exit codes: 0 equal, 1 different or wrong arguments, 2 an image cannot be opened, 3 its map cannot be read, 4 its data cannot be read')
            [CompletionResult]::new('convert', 'convert', [CompletionResultType]::ParameterValue, 'Copy one or several disks into one image, qcow2 or raw')
            [CompletionResult]::new('create', 'create', [CompletionResultType]::ParameterValue, 'Create a new image: qcow2, raw or LUKS')
            [CompletionResult]::new('dd', 'dd', [CompletionResultType]::ParameterValue, 'Copy blocks of a disk into a new image')
            [CompletionResult]::new('dump', 'dump', [CompletionResultType]::ParameterValue, 'Copy an image''s metadata for a bug report: a check of the copy finds the same, and it holds no guest data')
            [CompletionResult]::new('info', 'info', [CompletionResultType]::ParameterValue, 'Show what an image is: format, sizes, snapshots, bitmaps')
            [CompletionResult]::new('map', 'map', [CompletionResultType]::ParameterValue, 'Show which bytes of a disk are data or zeroes, and in which file of its backing chain they are')
            [CompletionResult]::new('measure', 'measure', [CompletionResultType]::ParameterValue, 'Calculate the length of a new image''s file')
            [CompletionResult]::new('rebase', 'rebase', [CompletionResultType]::ParameterValue, 'Give an image another backing file, or none, and keep what a guest reads')
            [CompletionResult]::new('report', 'report', [CompletionResultType]::ParameterValue, 'Check images and write one HTML page about them, or about results of other runs: verdicts, findings and what they mean, layout, contents, snapshots, backing chain')
            [CompletionResult]::new('resize', 'resize', [CompletionResultType]::ParameterValue, 'Resize the disk of an image; --shrink allows a smaller one')
            [CompletionResult]::new('snapshot', 'snapshot', [CompletionResultType]::ParameterValue, 'List, create, apply or delete the snapshots of an image')
            [CompletionResult]::new('undo', 'undo', [CompletionResultType]::ParameterValue, 'Undo a repair: put back every byte that ''check -r .. --undo FILE'' recorded before it wrote')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'qcheck;help;amend' {
            break
        }
        'qcheck;help;bitmap' {
            break
        }
        'qcheck;help;check' {
            break
        }
        'qcheck;help;commit' {
            break
        }
        'qcheck;help;compact' {
            break
        }
        'qcheck;help;compare' {
            break
        }
        'qcheck;help;convert' {
            break
        }
        'qcheck;help;create' {
            break
        }
        'qcheck;help;dd' {
            break
        }
        'qcheck;help;dump' {
            break
        }
        'qcheck;help;info' {
            break
        }
        'qcheck;help;map' {
            break
        }
        'qcheck;help;measure' {
            break
        }
        'qcheck;help;rebase' {
            break
        }
        'qcheck;help;report' {
            break
        }
        'qcheck;help;resize' {
            break
        }
        'qcheck;help;snapshot' {
            break
        }
        'qcheck;help;undo' {
            break
        }
        'qcheck;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
