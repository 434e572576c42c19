"""Text that ships with the package: prompts and rubrics of judge models, and the calibration set."""
