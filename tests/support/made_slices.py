"""Scores of slices as they are made by hand for the tests of tables."""

from brainseg.scoring.slice_score import SliceScore


def made(slice_id, *, area=100, predicted=100, shared=50, patient="P1", kind="glioma", hd95=3.0):
    """A slice of 100 by 100 pixels."""
    union = area + predicted - shared
    return SliceScore(
        id=slice_id,
        patient_id=patient,
        tumor_type=kind,
        height_px=100,
        width_px=100,
        area_px=area,
        predicted_area_px=predicted,
        shared_px=shared,
        dice=2 * shared / (area + predicted) if union else 1.0,
        iou=shared / union if union else 1.0,
        precision=shared / predicted if predicted else float(union == 0),
        recall=shared / area if area else float(union == 0),
        surface_dice=0.5,
        hd95_px=hd95,
    )
