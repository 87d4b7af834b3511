# ruff: noqa: RUF001 the words are of several scripts
"""Words of descriptions and image types, in several languages."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osteo_monai.imaging.header_words import contrast_in_text, dual_energy_words, nothing_given, processed_words

ORIGINAL = ("ORIGINAL", "PRIMARY", "AXIAL")


def _texts(table: str) -> list[str]:
    return [text for line in table.split("\n") for text in line.split("|") if text]


NATIVE = _texts("""
NONCONTRAST|noncontrast|NON-CONTRAST 2mm|NON CON CHEST|W/OUT CONTRAST|CT Abd W/O|W/O C|WO IV CON
TH CT CHEST WO C|CT ABD WITHOUT IV CONTRAST|without oral or IV contrast|no IV contrast|PRE CONTRAST
PRECONTRAST|CONTRAST: NONE|unenhanced|un-enhanced|NECT|NCCT HEAD|TNC|C- abdomen|Abdomen native
Abdomen nativ|Nativphase|ohne KM|ohne i.v. KM|KM: nein|sans injection|sans IV|TAP non injecté
sin contraste|TC SIMPLE|sem contraste|senza mdc|senza m.d.c.|ADDOME SENZA MDC|Fase nativa|zonder contrast
blanco|uten kontrast|utan kontrast|uden kontrast|ilman varjoainetta|bez kontrastu|Nativní|без контраста
Chest w/o iodine contrast|sans produit de contraste iodé
без КУ|до контраста|平扫|単純CT|非造影|造影なし|비조영
""")

GIVEN = _texts("""
CECT ABDOMEN|Chest CE|CTPA|CTA aorta|DELAYED|portal venous 2.0|Abdomen PV 70s|PORTO VENOSA|post contrast
C+ 2mm|CT Abd WO/W|W/WO CONTRAST|W&WO|CT ABD W/O AND WITH CONTRAST|W/ CONTRAST|W CON|CT CHEST W IV CON
with IV contrast|IV contrast|contrast enhanced|CT ABDOMEN & PELVIS ENHANCED=AB|nephrographic|angio thorax
Thorax iv|+KM|mit KM|Abdomen m. KM|FDG_TK_KM|Kontrastmittel|venös|portalvenös|Spätphase|Post-KM
Urographie|ARTERIELLE|avec injection|TDM TAP injecté|TAP injecté 2mm|temps portal|tardif|con contraste
com contraste|ADDOME CON MDC|met contrast|med kontrast|z kontrastem|с контрастом|после КУ
артериальная фаза|胸部增强|门脉期|造影|動脈相|조영
""")

SILENT = _texts("""
Abdomen 2.0|Thorax  2.0  B31f|lung|CT CAP|PET-CT SERIES|1PETCT_WholeBody|PANCREAS DI, iDose (3)
CT Body 3.0|CT_Skull_To_Thigh  5.0  B30f|5.4 Chest/ Abd/ Pelvis*|LUNG BASES 5MM|high contrast
Stage IV lung|cholangio|PORTABLE CHEST|angiomyolipoma|Recon 3: Vol|BONE 2mm|WEICHTEIL 3mm|C-Spine
CONTINUOUS|control|Nativity|PVC pipe|INVENTIVE|IVORY|CONCORD|preventive|CONE BEAM|Natividad hospital 2mm
Low-dose CT
""")

PROCESSED = _texts("""
Monoenergetic Plus 40 keV|MonoE 55 keV [HU]|Mono+ 70|MonoPlus 50keV|Mono E=50|MONO 70keV|MONO40|MONOE70
VMI 70|Mono_70keV_2.0|AX MONO 74 KEV|Monochromatic 70|65.5keV|40KEV|ABD VMI40KEV|monoénergétique 60
Monoenergetisch 70|单能量70|monoenergetico|仮想単色X線画像|VNC Abdomen|Abdomen VNC 2.0|VNCa bone|VUE 5mm
Virtual Non-Contrast|Virtual unenhanced|virtual nonenhanced|virtuell nativ|virt. nativ
Non-contraste virtuel|虚拟平扫|Iodine|Iodine map|Iodine (Water)|Iodine no Water|Water(Iodine)|Iodine Density
Jodkarte|carte d'iode|mappa dello iodio|mapa de yodo|йодная карта|Ca Supp 25|CaSupp|HAP (Water)
Calcium suppression 25|Calcium Removed|PureCalcium|Uric acid|Lung PBV|LungPBV|Z-eff|Zeff|Z Effective|Effective Z
rho|Rho/Z|Electron Density
""")

PROCESSED_TYPES = _texts("""
VIRTUAL_NON_CONTRAST|70KEV|VUE|GSI|CALCIUM_SUPPRESSED|VNC|VMI|VMI40KEV|MONOE_70KEV|MONO_E=70KEV|MONO70|MIP
DE_MONOENERGETIC|IODINE_DENSITY|EFF_ATOMIC_NUM|MAT_SPECIFIC|MATERIAL|ZEFF|ELECTRON_DENSITY
""")

ORDINARY = _texts("""
Monophasic 2.0|Mono-phasic liver|mono phase|MONOCLONAL gammopathy|Kevin protocol|Kevlar vest 70|Keville|Revue
ABDOMEN 2.0 MPR|Calcium score 3mm|CaScore 3.0 B35f|calcium scoring|iodine contrast|with iodine|IV iodine|TNC
iodinated IV|120 kV|E = 120 kV|Rhode Island|rhonchi|lung 1.25|ART.RENALES 12/Abdomen/Hx|water bath|fatty liver
Zeffirelli hospital|nonionic|Virtual colonoscopy|Virtual bronchoscopy|Vuestro|NONCONTRAST|CECT 2mm
""")

ORDINARY_TYPES = (
    "CT_SOM5 SPI",
    "CT_SOM7 SPI DUAL",
    "HELIX",
    "AXIAL",
    "STD",
    "REFORMATTED",
    "AVERAGE",
    "MPR",
    "NORM",
    "",
)


@pytest.mark.parametrize("text", NATIVE)
def test_texts_that_deny_contrast_agent(text: str) -> None:
    assert contrast_in_text(text) is False


@pytest.mark.parametrize("text", GIVEN)
def test_texts_that_name_contrast_agent(text: str) -> None:
    assert contrast_in_text(text) is True


@pytest.mark.parametrize("text", [*SILENT, *ORDINARY_TYPES])
def test_texts_without_a_word_on_contrast_agent(text: str) -> None:
    assert contrast_in_text(text) is None


@pytest.mark.parametrize(
    "entry", ["NONE", "no", "N/A", "0", "ohne KM", "W/O", "нет", "なし", "NO CONTRAST", "without IV"]
)
def test_entries_of_no_agent(entry: str) -> None:
    assert nothing_given(entry)


@pytest.mark.parametrize("entry", ["APPLIED", "ULTRAVIST 370", "IV", "Oral & IV", "CONTRAST", "Iomeron", "C"])
def test_entries_of_an_agent(entry: str) -> None:
    assert not nothing_given(entry)


@pytest.mark.parametrize("text", PROCESSED)
def test_descriptions_of_processed_images(text: str) -> None:
    assert processed_words(ORIGINAL, [text])


@pytest.mark.parametrize("value", PROCESSED_TYPES)
def test_image_types_of_processed_images(value: str) -> None:
    assert processed_words((*ORIGINAL, value), [])


@pytest.mark.parametrize("text", sorted({*ORDINARY, *SILENT, *NATIVE}))
def test_ordinary_descriptions(text: str) -> None:
    assert processed_words(ORIGINAL, [text]) == set()


@pytest.mark.parametrize("value", ORDINARY_TYPES)
def test_ordinary_image_types(value: str) -> None:
    assert processed_words((*ORIGINAL, value), []) == set()
    assert dual_energy_words((*ORIGINAL, value), []) == set()


def test_single_words_count_in_descriptions_of_derived_images_only() -> None:
    assert processed_words(("DERIVED", "SECONDARY"), ["AX MIP 10"], derived=True) == {"MIP"}
    assert processed_words(ORIGINAL, ["AX MIP 10"]) == set()


@pytest.mark.parametrize("text", ["DE_MIXED", "M_0.5", "F_0.6", "DECT abdomen", "GSI liver", "dual energy", "双能CT"])
def test_dual_energy_acquisitions(text: str) -> None:
    assert dual_energy_words(ORIGINAL, [text])
    assert processed_words(ORIGINAL, [text]) == set()


@given(st.text(max_size=80))
def test_any_text_is_read(text: str) -> None:
    assert contrast_in_text(text) in (True, False, None)
    assert processed_words([text], [text], derived=True) is not None


@pytest.mark.parametrize("part", ["ORAL ", "ORAL", "IV ", "W/O ", "C", "OR AND ", "NO ", "CONTRAST"])
def test_repeated_words_are_read_in_milliseconds(part: str) -> None:
    text = ("without " + part * 80)[:80]
    start = time.perf_counter()
    contrast_in_text(text)
    assert time.perf_counter() - start < 0.2
