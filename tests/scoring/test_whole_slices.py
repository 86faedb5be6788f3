"""A slice's classes taken together."""

from brainseg.scoring.slice_score import SliceScore, by_slice, slice_dice


def score(slice_id: str, class_name: str, *, area: int, dice: float) -> SliceScore:
    return SliceScore(id=slice_id, class_name=class_name, patient_id="", tumor_type="", area_px=area, dice=dice)


def test_the_dice_of_a_slice_is_the_mean_over_the_classes_that_it_has() -> None:
    liver, spleen = score("b", "liver", area=9, dice=0.5), score("b", "spleen", area=4, dice=0.75)
    neither, found = score("b", "vein", area=0, dice=1.0), score("b", "cyst", area=0, dice=0.0)
    alone = score("a", "liver", area=0, dice=1.0)
    assert by_slice([liver, spleen, alone, neither]) == {"b": [liver, spleen, neither], "a": [alone]}
    assert slice_dice([liver, spleen, neither]) == 0.625
    assert slice_dice([liver, spleen, neither, found]) == 1.25 / 3  # of a class that isn't there, too
    assert slice_dice([alone]) == 1.0
