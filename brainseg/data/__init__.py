"""From images and masks on disk (or the phantom) to audited, split, cached arrays and batches."""
