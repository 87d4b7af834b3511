"""Predictions tables: columns, derived values, problems, and what is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osteo_monai.data import (
    BINARY_CLASSES,
    FACTS,
    STATUS_CLASSES,
    Record,
    common_rows,
    read_prediction_rows,
    read_predictions,
    record_columns,
    write_predictions,
)
from osteo_monai.data.predictions_schema import COLUMNS, schema_table
from osteo_monai.domain import DensityThresholds, Sex
from osteo_monai.errors import UnusableInputError


def written(folder: Path, text: str, name: str = "model_a.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_probabilities_give_scores_and_the_most_probable_class(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "subject_id,bmd_mg_cm3,probability_normal,probability_osteopenia,probability_osteoporosis,other\n"
        "a,150,0.7,0.2,0.1,x\n"
        "b,80,0.5,0.3,0.2,\n"
        "c,79.9,0.1,0.2,0.7,\n"
        "d,120,0.1,0.6,0.3,\n",
    )
    (one,) = read_predictions([path])
    assert (one.model, one.cohort, one.classes) == ("model_a", "test", STATUS_CLASSES)
    assert one.truth.tolist() == [0, 1, 2, 1]  # both limits are osteopenia
    assert one.predicted is not None
    assert one.predicted.tolist() == [0, 0, 2, 1]
    assert one.decided_by == "the most probable class"
    assert one.scores["osteoporosis"].tolist() == [0.1, 0.2, 0.7, 0.3]
    assert one.probabilities is not None
    assert one.probabilities.shape == (4, 3)
    assert not one.repeats


def test_density_gives_scores_and_classes(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,predicted_bmd_lower,predicted_bmd_upper,kvp\n"
        "a,150,130,110,150,120\nb,90,100,80,120,100\nc,60,70,50,90,120\n",
    )
    (one,) = read_predictions([path])
    assert one.predicted is not None
    assert one.predicted.tolist() == [0, 1, 2]
    assert one.scores["normal"].tolist() == [130, 100, 70]
    assert one.scores["osteoporosis"].tolist() == [-130, -100, -70]
    assert one.scores["osteopenia"].tolist() == [-30, 0, -30]
    assert one.facts["kvp"].tolist() == ["120", "100", "120"]
    (moved,) = read_predictions([path], DensityThresholds(65, 110, source="a test"))
    assert moved.truth.tolist() == [0, 1, 2]
    assert moved.predicted is not None
    assert moved.predicted.tolist() == [0, 1, 1]
    assert moved.scores["osteopenia"].tolist() == [-42.5, -12.5, -17.5]


def test_given_scores_and_classes_come_before_derived_ones(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "subject_id,model,cohort,bone_status,score_osteoporosis,predicted,predicted_bmd_mg_cm3\n"
        "a,HU,validation,normal,-180,normal,60\nb,HU,test,Osteoporosis,-70,osteopenia,60\n",
    )
    validation, test = read_predictions([path])
    assert (validation.cohort, test.cohort) == ("validation", "test")
    assert test.scores["osteoporosis"].tolist() == [-70]
    assert test.scores["normal"].tolist() == [60]
    assert test.predicted is not None
    assert test.predicted.tolist() == [1]
    assert test.decided_by == "as given"
    assert np.isnan(test.density).all()


def test_binary_problem(tmp_path: Path) -> None:
    text = "subject_id,osteoporosis,probability_osteoporosis,bmd_mg_cm3\na,1,0.5,100\nb,0,0.49,70\nc,1,0.2,\n"
    (one,) = read_predictions([written(tmp_path, text)])
    assert one.classes == BINARY_CLASSES
    assert one.reported_classes == ("osteoporosis",)
    assert one.truth.tolist() == [1, 0, 1]  # DXA determines the truth, QCT may disagree
    assert one.predicted is not None
    assert one.predicted.tolist() == [1, 0, 0]
    assert list(one.scores) == ["osteoporosis"]
    # one probability against three classes makes the problem binary
    text = "subject_id,bone_status,probability_osteoporosis\na,osteoporosis,0.9\nb,osteopenia,0.6\n"
    (one,) = read_predictions([written(tmp_path, text)])
    assert one.classes == BINARY_CLASSES
    assert one.truth.tolist() == [1, 0]
    # three classes against a binary truth: the other two are one
    text = "subject_id,osteoporosis,predicted\na,1,osteoporosis\nb,0,osteopenia\nc,0,1\n"
    (one,) = read_predictions([written(tmp_path, text)])
    assert one.predicted is not None
    assert one.predicted.tolist() == [1, 0, 1]


def test_scores_without_a_cut_off_give_no_class(tmp_path: Path) -> None:
    (one,) = read_predictions([written(tmp_path, "subject_id,osteoporosis,score_osteoporosis\na,1,3\nb,0,1\n")])
    assert one.predicted is None
    assert "without a cut-off" in one.decided_by
    assert one.is_predicted("osteoporosis") is None


def test_rows_without_a_prediction_are_counted(tmp_path: Path) -> None:
    text = "subject_id,bone_status,predicted,virtual\na,normal,normal,1\nb,normal,,1\nc,osteopenia,osteopenia,1\n"
    (one,) = read_predictions([written(tmp_path, text)])
    assert (len(one), one.unanswered, one.virtual) == (2, 1, True)
    assert one.subjects.tolist() == ["a", "c"]


def test_several_images_of_a_subject(tmp_path: Path) -> None:
    head = "subject_id,osteoporosis,probability_osteoporosis,level\n"
    first = written(tmp_path, head + "a,1,0.5,L1\na,1,0.6,L2\nb,0,0.1,L1\n", "first.csv")
    second = written(tmp_path, head + "b,0,0.3,L1\na,1,0.2,L2\n", "second.csv")
    one, two = read_predictions([first, second])
    assert one.repeats
    assert not one.ordered_images
    a, b = common_rows(one, two)
    assert one.images[a].tolist() == two.images[b].tolist()
    assert sorted(zip(one.scores["osteoporosis"][a], two.scores["osteoporosis"][b], strict=True)) == [
        (0.1, 0.3),
        (0.6, 0.2),
    ]
    unnamed = written(tmp_path, "subject_id,osteoporosis,probability_osteoporosis\na,1,0.5\na,1,0.6\n", "u.csv")
    assert read_predictions([unnamed])[0].ordered_images


def test_single_rows_are_paired_by_subject(tmp_path: Path) -> None:
    one = written(tmp_path, "subject_id,osteoporosis,probability_osteoporosis,kvp\na,1,0.5,120\nb,0,0.2,100\n", "1.csv")
    two = written(tmp_path, "subject_id,osteoporosis,score_osteoporosis,kvp\nb,0,7,100.0\nc,0,1,100.0\n", "2.csv")
    a, b = common_rows(*read_predictions([one, two]))
    assert (a.tolist(), b.tolist()) == ([1], [0])


def test_all_problems_are_listed_together(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "subject_id,cohort,bone_status,bmd_mg_cm3,probability_normal,probability_osteopenia,probability_osteoporosis\n"
        "a,test,normal,70,0.5,0.3,0.2\n"
        "b,tset,normal,,0.5,0.5,0.5\n"
        ",test,healthy,,1.5,0,0\n"
        "Jane Doe,test,,,x,0,1\n"
        "e,test,normal,0.9e4,0.2,,0.8\n"
        "f,validation,normal,,0.2,0.2,0.6\n"
        "f,test,normal,,0.2,0.2,0.6\n",
    )
    with pytest.raises(UnusableInputError) as error:
        read_predictions([path])
    message = str(error.value)
    for part in (
        "line 2: bone_status is normal, but 70 mg/cm3 means osteoporosis",
        "line 3: cohort must be training, validation, test or external_<centre>, got 'tset'",
        "line 3: the three probabilities must add up to 1, got 1.5",
        "line 4: subject_id is empty",
        "line 4: bone_status must be one of normal, osteopenia, osteoporosis, got 'healthy'",
        "line 4: probability_normal must be a number between 0 and 1, got '1.5'",
        "line 5: there is no truth",
        "line 5: probability_normal must be a number between 0 and 1, got 'x'",
        "line 6: bmd_mg_cm3 must be a density in mg/cm3, got '0.9e4'",
        "line 8: model 'model_a' has this subject in 'validation' and in 'test'",
    ):
        assert part in message
    assert "Jane Doe" not in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("subject_id,bone_status\na,normal\n", "has no prediction: it needs one of probability_normal"),
        ("subject_id,predicted\na,normal\n", "has no truth: it needs bone_status, bmd_mg_cm3 or osteoporosis"),
        ("bone_status,predicted\nnormal,normal\n", "no column subject_id"),
        ("subject_id,bone_status,predicted\n", "no row below the header"),
        ("subject_id,bone_status,predicted\na,normal,\n", "has no prediction: every row is empty"),
        ("subject_id,bone_status,predicted\na,normal,1\n", "predicted must be one of normal, osteopenia"),
        ("subject_id,osteoporosis,predicted\na,2,1\n", "osteoporosis must be 0 or 1, got '2'"),
        ("subject_id,osteoporosis,bone_status,predicted\na,1,normal,normal\n", "osteoporosis is 1, but bone_status"),
        (
            "subject_id,bone_status,predicted,score_normal\na,normal,normal,\nb,normal,normal,3\n",
            "line 2: score_normal empty, but other rows of model 'model_a', cohort 'test' have it",
        ),
        (
            "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3,predicted_bmd_lower,predicted_bmd_upper\na,90,90,95,99\n",
            "must be between predicted_bmd_lower and predicted_bmd_upper",
        ),
        (
            "subject_id,osteoporosis,bone_status,predicted\na,1,,1\nb,,normal,normal\n",
            "the truth must be osteoporosis in every row or bone_status",
        ),
        ("subject_id,bone_status,predicted,virtual\na,normal,normal,maybe\n", "virtual must be 0 or 1, got 'maybe'"),
    ],
)
def test_invalid_tables_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UnusableInputError) as error:
        read_predictions([written(tmp_path, text)])
    assert sentence in str(error.value)


def test_contradicting_files_are_refused(tmp_path: Path) -> None:
    head = "subject_id,model,bone_status,predicted\n"
    one = written(tmp_path, head + "a,M,normal,normal\nb,M,osteopenia,normal\n", "one.csv")
    again = written(tmp_path, head + "a,M,normal,normal\n", "again.csv")
    with pytest.raises(
        UnusableInputError, match="'again.csv', line 2: model 'M' has this subject of 'test' in another"
    ):
        read_predictions([one, again])
    other = written(tmp_path, head + "a,N,osteopenia,normal\nb,N,osteopenia,normal\n", "other.csv")
    with pytest.raises(UnusableInputError, match="models 'M' and 'N' have different truths of 1 of 2 images"):
        read_predictions([one, other])
    with pytest.raises(UnusableInputError) as error:
        read_predictions([tmp_path / "no.csv", written(tmp_path, "subject_id,predicted\n", "p.csv")])
    assert "there is no file" in str(error.value)
    assert "'p.csv' has no truth" in str(error.value)


def test_a_missing_probability_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.csv"
    file.write_text(
        "subject_id,bone_status,prob_normal,probability_osteopenia,probability_osteoporosis\na,normal,0.9,0.05,0.05\n"
    )
    with pytest.raises(
        UnusableInputError, match="has only probability_osteopenia and probability_osteoporosis; give all"
    ):
        read_predictions([file])


# --- schema, rows, writing -----------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[2] / "docs" / "predictions.md"

PLAIN = "subject_id,cohort,osteoporosis,probability_osteoporosis,virtual\na,validation,1,0.9,0\nb,,0,0.2,0\n"
VARIANTS = {
    "byte order mark": "\ufeff" + PLAIN,
    "capitals, comment, words": "# by hand\nSubject_ID,COHORT,Osteoporosis,Probability_osteoporosis,Virtual\n"
    "a,validation,Yes,0.9,no\nb,,FALSE,0.2,\n",
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_variants_of_a_table_are_read_alike(tmp_path: Path, text: str) -> None:
    plain, path = written(tmp_path, PLAIN, "plain.csv"), written(tmp_path, text, "variant.csv")
    for expected, read in zip(read_predictions([plain]), read_predictions([path]), strict=True):
        assert (read.cohort, read.subjects.tolist()) == (expected.cohort, expected.subjects.tolist())
        assert read.truth.tolist() == expected.truth.tolist()
    rows = read_prediction_rows(path)
    assert [row["osteoporosis"] for row in rows] == ["1", "0"]
    assert [row["cohort"] for row in rows] == ["validation", "test"]
    assert {row["model"] for row in rows} == {"variant"}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheet_export_with_decimal_commas_reads_as_the_plain_table(separator: str, tmp_path: Path) -> None:
    """T10: ``manifest build`` read such tables, ``evaluate`` did not."""
    expected = read_predictions([written(tmp_path, PLAIN)])
    rows = read_prediction_rows(written(tmp_path, PLAIN))
    path = written(tmp_path, PLAIN.replace(",", separator).replace(".", ","))
    assert read_prediction_rows(path) == rows
    for one, other in zip(read_predictions([path]), expected, strict=True):
        assert one.subjects.tolist() == other.subjects.tolist()
        assert one.scores["osteoporosis"].tolist() == other.scores["osteoporosis"].tolist()
        assert (one.scores["osteoporosis"] % 1 > 0).any()


def test_a_separator_of_thousands_is_refused_beside_semicolons(tmp_path: Path) -> None:
    path = written(tmp_path, "subject_id;bmd_mg_cm3;predicted_bmd_mg_cm3\na;1.095,5;90,5\nb;80,5;81\n")
    with pytest.raises(UnusableInputError, match="no separator of thousands, got '1.095,5'"):
        read_predictions([path])


def test_rows_without_a_required_value_are_refused_or_returned(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN + "c,,1,,\n")
    with pytest.raises(UnusableInputError, match="line 4: probability_osteoporosis is empty"):
        read_prediction_rows(path)
    assert [row["subject_id"] for row in read_prediction_rows(path, allow_empty=True)] == ["a", "b", "c"]
    with pytest.raises(UnusableInputError, match="no column fold"):
        read_prediction_rows(path, ("fold",))
    with pytest.raises(UnusableInputError, match="there is no row below the header"):
        read_prediction_rows(written(tmp_path, "subject_id,probability_osteoporosis\n"))


def test_each_column_is_in_the_schema_once_and_in_the_document() -> None:
    names = [column.name for column in COLUMNS]
    assert len(set(names)) == len(names)
    assert schema_table() in DOCUMENT.read_text(encoding="utf-8")


def test_all_known_facts_of_a_record_are_repeated() -> None:
    values: dict[str, Any] = {
        "level": "L1", "age": 60, "sex": "F", "height_cm": 160, "weight_kg": 60, "t_score": -2.6, "centre": "riga",
        "kvp": 120, "contrast_phase": "native", "acquisition": "thin", "scanner": "A", "acquired": "2024-05-01",
    }  # fmt: skip
    record = Record.model_validate({"image": "a", "subject_id": "p", **values})
    columns = record_columns(record, "test", virtual=True)
    assert columns == {"subject_id": "p", "cohort": "test", "virtual": 1, **values}
    assert set(values) == set(FACTS)
    assert record_columns(Record(image="a", subject_id="p"), "test", False).keys() == {
        "subject_id",
        "cohort",
        "virtual",
    }


def test_columns_are_written_in_the_order_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "made" / "p.csv"
    rows: list[dict[str, object]] = [
        {"ward": 3, "probability_osteoporosis": 0.5, "subject_id": "a", "sex": Sex.FEMALE},
        {"subject_id": "b", "virtual": True, "probability_osteoporosis": float("nan")},
    ]
    write_predictions(path, rows)
    assert path.read_bytes() == b"subject_id,virtual,probability_osteoporosis,sex,ward\na,,0.5,F,3\nb,1,,,\n"
    write_predictions(path, [])
    assert path.read_text() == "subject_id\n"
    with pytest.raises(ValueError, match="must have a subject_id"):
        write_predictions(path, [{"model": "m"}])


cells = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)
table_rows = st.lists(
    st.fixed_dictionaries(
        {
            "subject_id": cells.filter(bool),
            "osteoporosis": st.booleans(),
            "probability_osteoporosis": st.floats(0, 1),
        },
        optional={"centre": cells, "ward": cells, "virtual": st.booleans()},
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=50)
@given(rows=table_rows)
def test_written_rows_are_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("p") / "p.csv"
    write_predictions(path, rows)
    for row, read in zip(rows, read_prediction_rows(path), strict=True):
        assert read["subject_id"] == row["subject_id"]
        assert float(read["probability_osteoporosis"]) == row["probability_osteoporosis"]
        assert read["osteoporosis"] == str(int(bool(row["osteoporosis"])))
        assert read.get("centre", "") == row.get("centre", "")
        assert read.get("ward", "") == row.get("ward", "")


def _written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("factor", [0.001, 0.01, -0.02])
def test_densities_in_another_unit_are_refused(tmp_path: Path, factor: float) -> None:
    rows = [f"p{i},{factor * d:.4f},{factor * d + 0.01:.4f}" for i, d in enumerate((60, 90, 110, 150))]
    path = _written(tmp_path / "a.csv", "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3", *rows)
    with pytest.raises(UnusableInputError, match="bmd_mg_cm3 must be in mg/cm3, got .* as in g/cm3"):
        read_predictions([path])


def test_two_low_densities_are_no_other_unit(tmp_path: Path) -> None:
    rows = [f"p{i},{d},{d + 1}" for i, d in enumerate((3.0, -4.0, 20.0))]
    path = _written(tmp_path / "a.csv", "subject_id,bmd_mg_cm3,predicted_bmd_mg_cm3", *rows)
    assert len(read_predictions([path])[0]) == 3


def test_a_copied_row_is_no_second_image(tmp_path: Path) -> None:
    rows = ["p1,1,0.9", "p2,0,0.2", "p1,1,0.9"]
    path = _written(tmp_path / "a.csv", "subject_id,osteoporosis,probability_osteoporosis", *rows)
    with pytest.raises(UnusableInputError, match="line 4: a row must differ from the others, got all cells of line 2"):
        read_predictions([path])
    named = [f"{row},i{number}" for number, row in enumerate(rows)]
    path = _written(tmp_path / "a.csv", "subject_id,osteoporosis,probability_osteoporosis,image_id", *named)
    assert len(read_predictions([path])[0]) == 3


def test_an_identifier_with_a_hash_is_not_lost_silently(tmp_path: Path) -> None:
    head = ("# one comment", "subject_id,osteoporosis,probability_osteoporosis")
    path = _written(tmp_path / "a.csv", *head, "p1,1,0.9", "#7,1,0.8", "p2,0,0.2")
    with pytest.raises(UnusableInputError, match="line 4: a row must not begin with #"):
        read_predictions([path])
    path = _written(tmp_path / "a.csv", *head, "p1,1,0.9", '"#7",1,0.8', "# the end, of it", "p2,0,0.2")
    assert len(read_predictions([path])[0]) == 3


@pytest.mark.parametrize("word", ["NA", "nan", "<NA>", "N/A", "null"])
def test_words_of_missing_values_are_empty_cells(tmp_path: Path, word: str) -> None:
    rows = [f"NA,1,0.9,61,{word}", f"b,0,{word},{word},site", "c,0,0.2,50,other", "d,1,0.7,70,other"]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["subject_id,osteoporosis,probability_osteoporosis,age,centre", *rows]) + "\n")
    (found,) = read_predictions([path])
    assert found.unanswered == 1
    assert found.subjects.tolist() == ["NA", "c", "d"]  # an identifier is no missing value
    assert found.facts["centre"].tolist() == [word, "other", "other"]  # nor is a text
    path.write_text(path.read_text().replace("c,0,", f"c,{word},"))
    with pytest.raises(UnusableInputError, match="line 4: "):
        read_predictions([path])


def test_the_name_of_a_centre_has_a_stated_form(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("subject_id,cohort,osteoporosis,score_osteoporosis\na,external_siteB,1,2\n")
    with pytest.raises(UnusableInputError, match="external_<centre> with a centre of a-z, 0-9 and _, got 'external_s"):
        read_predictions([path])
