
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
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand check 'Check a qcow2 image, and repair it with -r'
            cand create 'Make a new image, qcow2 or raw'
            cand info 'Tell what an image is: format, sizes, snapshots, bitmaps'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'qcheck;check'= {
            cand -f 'The image''s format, qcow2 or raw; told from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; told from its first bytes if not given'
            cand -r 'Repair clusters with counts that are too high, or everything that can be repaired; --repair alone means all'
            cand --repair 'Repair clusters with counts that are too high, or everything that can be repaired; --repair alone means all'
            cand --output 'How to print the result'
            cand -T 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe'
            cand --cache 'Accepted as by qemu-img: none, writeback, writethrough, directsync or unsafe'
            cand --max-findings 'Print at most this many findings and sum up the rest by kind; 0 prints all'
            cand -q 'Print no result; findings still go to standard error'
            cand --quiet 'Print no result; findings still go to standard error'
            cand -p 'Show progress even where standard error is no terminal'
            cand --progress 'Show progress even where standard error is no terminal'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;create'= {
            cand -f 'The new image''s format, qcow2 or raw'
            cand --format 'The new image''s format, qcow2 or raw'
            cand -o 'Options of the format, as name=value,...; "help" lists them'
            cand --options 'Options of the format, as name=value,...; "help" lists them'
            cand -b 'The file that has what the new image does not have'
            cand --backing 'The file that has what the new image does not have'
            cand -F 'The format of the backing file'
            cand --backing-format 'The format of the backing file'
            cand -u 'Do not open the backing file'
            cand --backing-unsafe 'Do not open the backing file'
            cand -q 'Do not tell what is created'
            cand --quiet 'Do not tell what is created'
            cand -h 'Print help'
            cand --help 'Print help'
        }
        &'qcheck;info'= {
            cand -f 'The image''s format, qcow2 or raw; told from its first bytes if not given'
            cand --format 'The image''s format, qcow2 or raw; told from its first bytes if not given'
            cand --output 'How to print the result'
            cand -b 'Tell of the backing file too, and of its backing file, and so on'
            cand --backing-chain 'Tell of the backing file too, and of its backing file, and so on'
            cand -U 'Read the image even if another program has it open for writing'
            cand --force-share 'Read the image even if another program has it open for writing'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'qcheck;help'= {
            cand check 'Check a qcow2 image, and repair it with -r'
            cand create 'Make a new image, qcow2 or raw'
            cand info 'Tell what an image is: format, sizes, snapshots, bitmaps'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'qcheck;help;check'= {
        }
        &'qcheck;help;create'= {
        }
        &'qcheck;help;info'= {
        }
        &'qcheck;help;help'= {
        }
    ]
    $completions[$command]
}
