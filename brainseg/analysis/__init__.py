"""What a run's predictions are worth: scores of each slice, tables with intervals, and figures.

scores.py            the final scores of a training
prediction.py        a model's probabilities of slices at their stored size
postprocess.py       from probabilities to a mask
measures.py          all scores of one slice; with surfaces.py, the distances of outlines
summary.py           the scores of many slices as tables; with intervals.py, a bootstrap over people
calibration.py       whether probabilities mean what they say
tuning.py            flips, shifts, threshold and smallest part, chosen on validation slices
stored_run.py        a finished run, read from the store
evaluation.py        the story of an evaluation
evaluation_text.py   its tables for people; evaluation_files.py, all that it leaves
comparison.py        runs by score, and the paired difference of two
comparison_text.py   the same for people; comparison_files.py, as CSV and JSON
report.py            what a report tells; report_text.py in sentences, report_page.py as one HTML file
page.py              a page of HTML that is one file, of the templates in pages/; page_figures.py, its figures
stored_predictions.py  what a run predicted on its validation slices; outlines.py, as paths to draw
gallery.py           every slice of a run or two; gallery_page.py, as one HTML file
segmenter.py         a model for new images: of a run, an alias or a file
new_images.py        new images, from file to masks; prediction_table.py, a row for each
serving.py           the same behind MLflow's scoring server
model_card.py        what is told of a registered model
figures.py           every picture
"""
