//! The types of partitions that are found on virtual machines, by their names.

/// Types in a GPT: those of UEFI's specification, of the Discoverable Partitions Specification and
/// of Microsoft's documentation.
const GPT: [(&str, &str); 17] = [
    ("C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI system partition"),
    ("21686148-6449-6E6F-744E-656564454649", "BIOS boot partition"),
    ("024DEE41-33E7-11D3-9D69-0008C781F39F", "MBR partition scheme"),
    ("0FC63DAF-8483-4772-8E79-3D69D8477DE4", "Linux file system"),
    ("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "Linux root (x86-64)"),
    ("B921B045-1DF0-41C3-AF44-4C6F280D3FAE", "Linux root (ARM64)"),
    ("BC13C2FF-59E6-4262-A352-B275FD6F7172", "Linux extended boot"),
    ("933AC7E1-2EB4-4F13-B844-0E14E2AEF915", "Linux home"),
    ("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "Linux swap"),
    ("E6D6D379-F507-44C2-A23C-238F2A3DF928", "Linux LVM"),
    ("A19D880F-05FC-4D3B-A006-743F0F84911E", "Linux RAID"),
    ("CA7D7CCB-63ED-4C53-861C-1742536059CC", "LUKS"),
    ("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "Microsoft basic data"),
    ("E3C9E316-0B5C-4DB8-817D-F92DF00215AE", "Microsoft reserved"),
    ("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", "Windows recovery"),
    ("516E7CB4-6ECF-11D6-8FF8-00022D09712B", "FreeBSD data"),
    ("516E7CBA-6ECF-11D6-8FF8-00022D09712B", "FreeBSD ZFS"),
];

/// Types in an MBR.
const MBR: [(u8, &str); 17] = [
    (0x01, "FAT12"),
    (0x04, "FAT16"),
    (0x06, "FAT16"),
    (0x07, "NTFS or exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32 (LBA)"),
    (0x0e, "FAT16 (LBA)"),
    (0x11, "hidden FAT12"),
    (0x27, "Windows recovery"),
    (0x82, "Linux swap"),
    (0x83, "Linux file system"),
    (0x8e, "Linux LVM"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xee, "GPT protective"),
    (0xef, "EFI system partition"),
    (0xfd, "Linux RAID"),
];

/// The name of a type in a GPT, else the GUID itself.
pub fn of_guid(guid: &str) -> String {
    let known = GPT.iter().find(|(known, _)| *known == guid);
    known.map_or_else(|| format!("type {guid}"), |(_, name)| (*name).to_owned())
}

/// The name of a type in an MBR, else the number.
pub fn of_byte(kind: u8) -> String {
    let known = MBR.iter().find(|(known, _)| *known == kind);
    known.map_or_else(|| format!("type {kind:#04x}"), |(_, name)| (*name).to_owned())
}
