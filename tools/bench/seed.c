// SPDX-License-Identifier: BSD-2-Clause
/*
 * Loaded in front of the emulator's C library. Bochs seeds what its RDRAND returns by the host's clock;
 * without that seed Linux draws the same numbers on every run, and so takes the same way.
 */
void srand(unsigned int seed);

void srand(unsigned int seed)
{
    (void)seed;
}
