"""Write a small MR series as DICOM files, as a scanner would: one file per slice of a phantom head.

Usage: make_dicom.py FOLDER

The series is the same at every call: names, dates and identifiers are fixed, and no person is behind them.
"""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

COLUMNS, ROWS, SLICES = 64, 64, 24
VOXEL = (3.5, 3.5, 5.0)
"""Size of a voxel in mm: along a row, down the rows, from slice to slice."""


def intensity(x: int, y: int, z: int) -> int:
    """Return the phantom's signal at one voxel: an ellipsoid, brighter to the left, front and top, dark inside."""
    u, v, w = (x - 31.5) / 26, (y - 31.5) / 30, (z - 11.5) / 11
    radius = u * u + v * v + w * w
    if radius > 1:
        return 0
    if radius < 0.04:
        return 120
    return 400 + 4 * x + 3 * (ROWS - 1 - y) + 8 * z


def slice_values(z: int) -> array[int]:
    """Return the 16-bit values of slice z, row by row from the front of the head to its back."""
    return array("H", (intensity(x, y, z) for y in range(ROWS) for x in range(COLUMNS)))


def uid(name: str) -> str:
    """Return a DICOM identifier that depends on the name alone."""
    return generate_uid(entropy_srcs=["neurocommand demo", name])


def dicom_slice(z: int) -> Dataset:
    """Return slice z as a DICOM MR image: axial, counted from the feet upwards."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = uid(f"slice {z}")
    image.StudyInstanceUID, image.SeriesInstanceUID = uid("study"), uid("series")
    image.FrameOfReferenceUID = uid("frame")
    image.PatientName, image.PatientID, image.PatientSex = "Phantom^Demo", "DEMO01", "O"
    image.PatientBirthDate = "20000101"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20261104"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "120000"
    image.StudyID, image.AccessionNumber, image.StudyDescription = "1", "", "Demo"
    # dcm2niix warns about vendors that it does not know.
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "MR", "SIEMENS", "phantom"
    image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 2, 1, z + 1
    image.SeriesDescription = image.ProtocolName = "T1w"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    image.BodyPartExamined, image.PatientPosition = "BRAIN", "HFS"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions, image.MRAcquisitionType = "GR", "SP", "", "3D"
    image.RepetitionTime, image.EchoTime, image.InversionTime, image.FlipAngle = 2300, 2.98, 900, 9
    image.MagneticFieldStrength, image.EchoTrainLength = 3, 1
    image.SliceThickness = image.SpacingBetweenSlices = VOXEL[2]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [-31.5 * VOXEL[0], -31.5 * VOXEL[1], (z - 11.5) * VOXEL[2]]
    image.SliceLocation = (z - 11.5) * VOXEL[2]
    image.PixelSpacing = [VOXEL[1], VOXEL[0]]
    image.Rows, image.Columns = ROWS, COLUMNS
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.WindowCenter, image.WindowWidth = 500, 1000
    values = slice_values(z)
    if sys.byteorder == "big":
        values.byteswap()
    image.PixelData = values.tobytes()
    return image


def main() -> None:
    """Write the series into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for z in range(SLICES):
        dicom_slice(z).save_as(folder / f"IM{z + 1:04d}.dcm", enforce_file_format=True)
    size = sum(path.stat().st_size for path in folder.glob("IM*.dcm"))
    print(f"{SLICES} DICOM files of {COLUMNS} x {ROWS} voxels, {size:,} bytes, in {folder}")


if __name__ == "__main__":
    main()
