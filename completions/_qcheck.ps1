
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
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check a qcow2 image, and repair it with -r')
            [CompletionResult]::new('create', 'create', [CompletionResultType]::ParameterValue, 'Make a new image, qcow2 or raw')
            [CompletionResult]::new('info', 'info', [CompletionResultType]::ParameterValue, 'Tell what an image is: format, sizes, snapshots, bitmaps')
            [CompletionResult]::new('resize', 'resize', [CompletionResultType]::ParameterValue, 'Make the disk of an image longer, or with --shrink shorter')
            [CompletionResult]::new('snapshot', 'snapshot', [CompletionResultType]::ParameterValue, 'List the snapshots in an image, take one, go back to one, or delete one')
            [CompletionResult]::new('undo', 'undo', [CompletionResultType]::ParameterValue, 'Undo a repair: put back every byte that ''check -r .. --undo FILE'' recorded before it wrote')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'qcheck;check' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('-r', '-r', [CompletionResultType]::ParameterName, 'Repair clusters with counts that are too high, or everything that can be repaired; --repair alone means all')
            [CompletionResult]::new('--repair', '--repair', [CompletionResultType]::ParameterName, 'Repair clusters with counts that are too high, or everything that can be repaired; --repair alone means all')
            [CompletionResult]::new('--undo', '--undo', [CompletionResultType]::ParameterName, 'Record in this new file what a repair overwrites, before it does, so that ''undo'' can put it back')
            [CompletionResult]::new('--hint-size', '--hint-size', [CompletionResultType]::ParameterName, 'The size of the guest''s disk, where the header that told it is damaged')
            [CompletionResult]::new('--hint-cluster-size', '--hint-cluster-size', [CompletionResultType]::ParameterName, 'The size of a cluster, where the header that told it is damaged')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('-T', '-T ', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe')
            [CompletionResult]::new('--cache', '--cache', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe')
            [CompletionResult]::new('--max-findings', '--max-findings', [CompletionResultType]::ParameterName, 'Print at most this many findings and sum up the rest by kind; 0 prints all')
            [CompletionResult]::new('--dry-run', '--dry-run', [CompletionResultType]::ParameterName, 'Print what a repair would write, and write nothing; the exit code is that of the check')
            [CompletionResult]::new('--allow-data-loss', '--allow-data-loss', [CompletionResultType]::ParameterName, 'With -r all: drop what cannot be mended, that is mappings that lead nowhere and snapshots and bitmaps that cannot be read, and release what may have belonged to them')
            [CompletionResult]::new('--explain', '--explain', [CompletionResultType]::ParameterName, 'Tell of each kind of finding what it means, what to do, and which guest data it touches')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print no result; findings still go to standard error')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print no result; findings still go to standard error')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show progress even where standard error is no terminal')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress even where standard error is no terminal')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;create' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The new image''s format, qcow2 or raw')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The new image''s format, qcow2 or raw')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'Options of the format, as name=value,...; "help" lists them')
            [CompletionResult]::new('--options', '--options', [CompletionResultType]::ParameterName, 'Options of the format, as name=value,...; "help" lists them')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'The file that has what the new image does not have')
            [CompletionResult]::new('--backing', '--backing', [CompletionResultType]::ParameterName, 'The file that has what the new image does not have')
            [CompletionResult]::new('-F', '-F ', [CompletionResultType]::ParameterName, 'The format of the backing file')
            [CompletionResult]::new('--backing-format', '--backing-format', [CompletionResultType]::ParameterName, 'The format of the backing file')
            [CompletionResult]::new('-u', '-u', [CompletionResultType]::ParameterName, 'Do not open the backing file')
            [CompletionResult]::new('--backing-unsafe', '--backing-unsafe', [CompletionResultType]::ParameterName, 'Do not open the backing file')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Do not tell what is created')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Do not tell what is created')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;info' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('-b', '-b', [CompletionResultType]::ParameterName, 'Tell of the backing file too, and of its backing file, and so on')
            [CompletionResult]::new('--backing-chain', '--backing-chain', [CompletionResultType]::ParameterName, 'Tell of the backing file too, and of its backing file, and so on')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'Read the image even if another program has it open for writing')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;resize' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('--preallocation', '--preallocation', [CompletionResultType]::ParameterName, 'What to do for the new part of the disk: nothing (off), map it (metadata), map it and reserve its room (falloc), or map it and fill it with zeroes (full)')
            [CompletionResult]::new('--shrink', '--shrink', [CompletionResultType]::ParameterName, 'The disk may get shorter: the data beyond its new end is lost')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Do not tell that it is done')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Do not tell that it is done')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            break
        }
        'qcheck;snapshot' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('--format', '--format', [CompletionResultType]::ParameterName, 'The image''s format, qcow2 or raw; told from its first bytes if not given')
            [CompletionResult]::new('-c', '-c', [CompletionResultType]::ParameterName, 'Take a snapshot of this name')
            [CompletionResult]::new('--create', '--create', [CompletionResultType]::ParameterName, 'Take a snapshot of this name')
            [CompletionResult]::new('-a', '-a', [CompletionResultType]::ParameterName, 'Go back to the snapshot of this id or name')
            [CompletionResult]::new('--apply', '--apply', [CompletionResultType]::ParameterName, 'Go back to the snapshot of this id or name')
            [CompletionResult]::new('-d', '-d', [CompletionResultType]::ParameterName, 'Delete the snapshot of this name')
            [CompletionResult]::new('--delete', '--delete', [CompletionResultType]::ParameterName, 'Delete the snapshot of this name')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the list')
            [CompletionResult]::new('-l', '-l', [CompletionResultType]::ParameterName, 'List the snapshots; this is what is done if nothing else is asked for')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'List the snapshots; this is what is done if nothing else is asked for')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: only a list prints anything')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Accepted as by qemu-img: only a list prints anything')
            [CompletionResult]::new('-U', '-U ', [CompletionResultType]::ParameterName, 'List even if another program has the image open for writing')
            [CompletionResult]::new('--force-share', '--force-share', [CompletionResultType]::ParameterName, 'List even if another program has the image open for writing')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;undo' {
            [CompletionResult]::new('--force', '--force', [CompletionResultType]::ParameterName, 'Put the bytes back even if the image has changed since: what was written meanwhile may not fit them')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Do not tell that it is done')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Do not tell that it is done')
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'Show progress even where standard error is no terminal')
            [CompletionResult]::new('--progress', '--progress', [CompletionResultType]::ParameterName, 'Show progress even where standard error is no terminal')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'qcheck;help' {
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check a qcow2 image, and repair it with -r')
            [CompletionResult]::new('create', 'create', [CompletionResultType]::ParameterValue, 'Make a new image, qcow2 or raw')
            [CompletionResult]::new('info', 'info', [CompletionResultType]::ParameterValue, 'Tell what an image is: format, sizes, snapshots, bitmaps')
            [CompletionResult]::new('resize', 'resize', [CompletionResultType]::ParameterValue, 'Make the disk of an image longer, or with --shrink shorter')
            [CompletionResult]::new('snapshot', 'snapshot', [CompletionResultType]::ParameterValue, 'List the snapshots in an image, take one, go back to one, or delete one')
            [CompletionResult]::new('undo', 'undo', [CompletionResultType]::ParameterValue, 'Undo a repair: put back every byte that ''check -r .. --undo FILE'' recorded before it wrote')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'qcheck;help;check' {
            break
        }
        'qcheck;help;create' {
            break
        }
        'qcheck;help;info' {
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
