"""Show the header of a NIfTI file, and check that it holds exactly the phantom of make_dicom.py.

Usage: check_nifti.py FILE.nii.gz

Every voxel is compared: a conversion that loses, mirrors or reorders slices is found. Exit code 1: they differ.
The format: https://nifti.nimh.nih.gov/nifti-1 (a header of 348 bytes, then the voxels, first axis fastest).
"""

from __future__ import annotations

import gzip
import struct
import sys
from array import array
from pathlib import Path

from make_dicom import COLUMNS, ROWS, SLICES, VOXEL, intensity


def show(numbers: tuple[float, ...]) -> str:
    """Return numbers as people write a size: 64 x 64 x 24."""
    return " x ".join(f"{number:g}" for number in numbers)


def phantom() -> array[int]:
    """Return the phantom's voxels as NIfTI orders them: from left to right and from back to front, unlike DICOM."""
    return array(
        "h",
        (
            intensity(COLUMNS - 1 - x, ROWS - 1 - y, z)
            for z in range(SLICES)
            for y in range(ROWS)
            for x in range(COLUMNS)
        ),
    )


def main() -> None:
    """Check the file named on the command line."""
    path = Path(sys.argv[1])
    data = gzip.decompress(path.read_bytes())
    (header_size,) = struct.unpack_from("<i", data, 0)
    dimensions = struct.unpack_from("<8h", data, 40)
    (bits,) = struct.unpack_from("<h", data, 72)
    voxel = struct.unpack_from("<4f", data, 76)[1:]
    (offset,) = struct.unpack_from("<f", data, 108)
    size = dimensions[1 : dimensions[0] + 1]
    print(f"{path.name}: {show(size)} voxels of {show(voxel)} mm, {bits} bits each")
    if header_size != 348 or size != (COLUMNS, ROWS, SLICES) or bits != 16:
        sys.exit(f"{path.name}: expected {show((COLUMNS, ROWS, SLICES))} voxels of 16 bits")
    if any(abs(found - wanted) > 1e-4 for found, wanted in zip(voxel, VOXEL, strict=True)):
        sys.exit(f"{path.name}: expected voxels of {show(VOXEL)} mm")
    found = array("h", data[int(offset) :])
    wanted = phantom()
    if found != wanted:
        different = sum(a != b for a, b in zip(found, wanted, strict=False))
        sys.exit(f"{path.name}: {different} of {len(wanted)} voxels differ from the phantom, {len(found)} were read")
    print(f"{path.name}: all {len(wanted):,} voxels equal the DICOM series'")


if __name__ == "__main__":
    main()
