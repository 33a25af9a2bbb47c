// SPDX-License-Identifier: BSD-2-Clause
/*
 * The board of a partition, as far as its operating system cannot find it out by itself. What depends on the
 * partition is not here: the processors are in an SSDT that core/vdev/acpi.c writes.
 */
DefinitionBlock ("", "DSDT", 2, "UMBRA", "BOARD", 1)
{
    // Soft off: SLP_TYP 0 in PM1a control; there is no PM1b.
    Name (\_S5, Package () {0, 0, 0, 0})

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                        0, 0x0D00, 0xFFFF, 0, 0xF300)
                // RAM ends at 3 GiB, and goes on at 4.
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
            })

            // The devices behind the ISA bus.
            Device (PIC)
            {
                Name (_HID, EisaId ("PNP0000"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0020, 0x0020, 1, 2)
                    IO (Decode16, 0x00A0, 0x00A0, 1, 2)
                    IO (Decode16, 0x04D0, 0x04D0, 1, 2)
                    IRQNoFlags () {2}
                })
            }

            Device (PIT)
            {
                Name (_HID, EisaId ("PNP0100"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0040, 0x0040, 1, 4)
                    IRQNoFlags () {0}
                })
            }

            Device (RTC)
            {
                Name (_HID, EisaId ("PNP0B00"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0070, 0x0070, 1, 2)
                    IRQNoFlags () {8}
                })
            }

            Device (COM1)
            {
                Name (_HID, EisaId ("PNP0501"))
                Name (_UID, 1)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x03F8, 0x03F8, 8, 8)
                    IRQNoFlags () {4}
                })
            }

            // Ports that no driver claims: speaker and refresh, reset pulse, POST code, fast reset, ACPI.
            Device (MBRD)
            {
                Name (_HID, EisaId ("PNP0C02"))
                Name (_UID, 0)
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0061, 0x0061, 1, 1)
                    IO (Decode16, 0x0064, 0x0064, 1, 1)
                    IO (Decode16, 0x0080, 0x0080, 1, 1)
                    IO (Decode16, 0x0092, 0x0092, 1, 1)
                    IO (Decode16, 0x0600, 0x0600, 1, 0x0C)
                })
            }
        }
    }
}
