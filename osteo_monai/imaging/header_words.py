"""Words of series descriptions and image types: processed images, dual energy, and contrast agent in several languages.

Terms are matched as words, never as substrings, after compatibility normalisation and with ``_`` as a space. Sources
of the terms: DICOM PS3.3 (image type values of multi-energy CT), product names of vendors (Monoenergetic Plus, VUE,
MonoE, Iodine no Water), and texts of real series and public bug reports that the tests list. TNC (true non-contrast)
is the usual name of a native scan in studies of virtual non-contrast (abstracts read), not that of a processed image.
"""

# ruff: noqa: RUF001 the words are of several scripts

import re
import unicodedata
from collections.abc import Iterable

_IMAGE_TYPES = frozenset(
    {"MIP", "MINIP", "MNIP", "MAXIP", "MAXIMUM", "MINIMUM", "VRT", "SSD", "CURVED", "CPR", "SUBTRACT", "SUBTRACTION"}
    | {"MONO", "VUE", "GSI", "IODINE", "MATERIAL", "PERFUSION", "RHO", "VNC", "VMI"}
    | {"MAT SPECIFIC", "MAT REMOVED", "MAT FRACTIONAL", "MAT MODIFIED", "MAT VALUE BASED"}
    | {"EFF ATOMIC NUM", "ELECTRON DENSITY", "CALCIUM SUPPRESSED"}
)
"""Image type values of images whose values are not the attenuation at the tube voltage."""


def _compiled(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_PROCESSED = _compiled(
    # one energy
    r"\bMONO(?=\b|\+|E\d*\b|\d|[ -]?E ?=|[ -]?ENERG|[ -]?PLUS|CHROM|[ÉÈ]NERG)[\w+]*(?![ -]?PHAS)",
    r"(?<![A-Z])\d{2,3}(?:[.,]\d+)?[ -]?KEV\b|(?<![A-Z])KEV\b(?! ?[A-Z])|\bKEV ?\d+",
    r"\bVM[IC]\d*(?:KEV)?\b|\bE ?= ?\d{2,3}\b(?! ?(?:KV|MA))",
    r"МОНОЭНЕРГ\w*|МОНОХРОМ\w*|单能\w*|單能\w*|単色\w*|仮想単色\w*",
    # virtual
    r"\bVNC[APV]?\d*\b|\bVNI\b|\bVUE\d*\b|\bVUI\b",
    r"\bVIRT(?:UAL|UELL?E?S?)?\b[. -]*(?:TRUE[ -]?)?(?:NON|NAT|UNENH|MONO|SANS|OHNE|SIN|SENZA)\w*",
    r"\bNON[ -]?CONTRASTE? VIRTUEL\w*|\b(?:SIN|SENZA|SANS) CONTRASTE?O? VIRTU\w*|ВИРТУАЛЬН\w* (?:НАТИВ|БЕСКОНТР)\w*",
    r"虚拟平扫|虛擬平掃|虚拟单能|仮想非造影|仮想単純",
    # materials
    r"(?<!IV )(?<!ORAL )(?<!WITH )(?<!NO )\bIODINE\b(?! ?-?(?:BASED|CONTRAST|CM\b|MEDI|AGENT|ALLERG|INJ))",
    r"\b(?:IODINE|WATER|CALCIUM|HAP|FAT|IRON|XENON)[ -]?\((?:IODINE|WATER|CALCIUM|HAP|FAT|BLOOD|MUSCLE)\)",
    r"\bIOD(?:INE)?[ -]?(?:MAP|DENS|OVERLAY|CONC)\w*|\b(?:JOD|IOD)[ -]?(?:KARTE|BILD|DICHTE)\w*",
    r"\b(?:CARTE|CARTO\w*|MAPPA|MAPA)[ -](?:D['’ ]?|DE |DI |DELLO |DO )?(?:L['’])?(?:IODE?|IODIO|YODO|IODO)\b",
    r"ЙОДН\w* КАРТ\w*|КАРТ\w* ЙОД\w*|碘(?:图|圖|基|密度|水)\w*|ヨード(?:マップ|密度|画像)",
    r"\bCA(?:LCIUM)?[ -]?SUPP\w*|\bCALCIUM[ -]?(?:REMOV|MAP|FREE)\w*|\bURIC[ -]?ACID\b|\b(?:LUNG ?)?PBV\b",
    r"\b(?:VIRTUAL )?NON[ -]?CALCIUM\b|\bPURE[ -]?(?:CALCIUM|LUMEN)\b|去钙",
    r"\bZ[ -]?EFF(?:ECTIVE)?\d*\b|\bEFF(?:ECTIVE|\.)?[ -]?(?:Z\b|ATOMIC)\w*",
    r"\bATOMIC[ -]?NUMBER\b|有效原子序数|実効原子番号",
    r"\bRHO\b(?:[ /-]?Z\b)?|\bELECTRON[ -]?DENS\w*|\bELEKTRONENDICHTE\b|电子密度|電子密度",
)
"""Names of images computed from several energies."""

_DUAL_ENERGY = _compiled(
    r"\bDUAL[ -]?ENERGY\b|\bDECT\b|\bGSI\b|\bSPECTRAL\b|\bDE MIXED\b|\b[MF] ?[-+]?[01]\.\d+\b|\bZWEI[ -]?SPEKTREN\w*",
    r"\bDOUBLE [ÉE]NERGIE\b|\bDOPPIA ENERGIA\b|\bENERG[IÍ]A DUAL\b|双能量?|二重エネルギー|デュアルエナジー",
)


def plain(text: str) -> str:
    """Return ``text`` in capitals with compatibility characters resolved and ``_`` and white space as single spaces."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFKC", text)).upper().strip()


def processed_words(image_type: Iterable[str], descriptions: Iterable[str], derived: bool = False) -> set[str]:
    """Return the words by which images say that their values are not the attenuation at the tube voltage.

    Args:
        image_type: values of ImageType or FrameType.
        descriptions: series description and protocol name.
        derived: whether the first value of the image type is DERIVED; single words such as MIP count in its
            descriptions too.
    """
    values, texts = [plain(v) for v in image_type], [plain(t) for t in descriptions]
    words = {m.group().strip() for text in (*values, *texts) for m in _PROCESSED.finditer(text)}
    for text in (*values, *(texts if derived else ())):
        parts = {text, *re.findall(r"[A-Z]+", text)}
        words |= {w for w in _IMAGE_TYPES if w in parts or (" " in w and w in text)}
    return words


def dual_energy_words(image_type: Iterable[str], descriptions: Iterable[str]) -> set[str]:
    """Return the words of a dual-energy acquisition whose images need not be processed (mixed, or of one tube)."""
    return {m.group().strip() for text in (*image_type, *descriptions) for m in _DUAL_ENERGY.finditer(plain(text))}


_AGENT = (
    r"(?:CONTRAST(?:E|O|ED|MIDDEL)?|CONT\.?|CON|CNTRST|CE|CM|KM|KL|MDC|M\.D\.C\.?|MC|PDC|CIV|CTE|CONTR?\.?|C|"
    r"KONTRAST\w*|K|INJ(?:ECT\w*)?\.?|ENHANCEMENT|VARJOAINE\w*|TEHOSTE\w*|КОНТРАСТ\w*|КУ|УСИЛЕНИ\w*|"
    r"PRODUIT(?: DE CONTRASTE)?)"
)
_ROUTE = (
    r"(?:I\.? ?V\.?|INTRAVENOUS|INTRAVEN[OÖ]S\w*|ORAL(?:E[SNR]?|LY)?|PO|RECTAL|OR|AND|ANY|"
    r"В/В|ВНУТРИВЕНН\w*|DE|DI|MEZZO DI)"
)
_WITHOUT = (
    r"(?:W ?/ ?O(?:UT)?|WO|W-O|WITHOUT|NON?|OHNE|O\.|KEINE?|SANS|SIN|SENZA|SEM|ZONDER|GEEN|UTEN|UTAN|UDEN|BEZ|"
    r"ILMAN|БЕЗ)"
)
_NATIVE = _compiled(
    rf"(?<!\w){_WITHOUT}[ .-]*(?:(?:{_ROUTE}|IOD\w*|JOD\w*)[ ./&-]*)*{_AGENT}(?!\w)",
    rf"(?<!\w){_WITHOUT}[ -]*(?:I\.? ?V\.?)(?!\w)",
    r"(?<!\w)(?:W ?/ ?O(?:UT)?|WO|WITHOUT)(?!\w)",
    rf"(?<!\w)(?:PRE|AVANT|VOR|PRIMA(?: DEL)?|ANTES(?: DE)?|FØR|FÖRE|ДО)[ -]*{_AGENT}(?!\w)",
    rf"(?<!\w){_AGENT}[ ]?[:=][ ]?(?:NONE|NO|NEIN|NON|NIL|NULL|0|-)(?!\w)",
    r"\b(?:CONTRAST|KONTRAST\w*)[ -]?(?:NOT|NEG)\w*",
    r"\bNON?[ -]?(?:CONTRAST\w*|CON|ENHANCED|INJECT\w*|CE)(?!\w)|\bUN[ -]?ENHANCED\b|\bPRECON\w*",
    r"\bNATIV[AEO]?S?\b|\bNATIVN\w*|\bNATIVE[NRSM]?\b|\bNATIV[- ]?(?:PHASE|SCAN|SERIE|CT)\w*",
    r"\bNATÍV\b|\bNECT\b|\bNCCT\b|\bTNC\b|\bBLANCO\b|\b(?:TC|TAC) SIMPLE\b",
    r"\bKONTRASTSIZ\b|\bS/MDC\b|\bS/C(?!\w)|\bU/K\b|(?<![\w+])C-(?!\w)|(?<!\w)-C(?!\w)|\bKM-(?!\w)",
    r"НАТИВ\w*|БЕСКОНТРАСТ\w*",
    r"平扫|平掃|非增强|非增強|无增强|未增强|不增强|無造影|非造影|造影なし|造影前|単純|비조영|조영 ?전",
    r"\b(?:NO|NON|WITHOUT) (?:ARTERIAL|VENOUS|PORTAL)\w*",
)
"""Images without contrast agent."""

_GIVEN = _compiled(
    r"\bW ?/? ?(?:O(?:UT)?)? ?(?:/|&|\+|AND) ?W(?:ITH|O|/O)?\b",
    rf"\b(?:W|WITH|MIT|AVEC|MET|MED|CON|COM|POST|PO|NACH|APR[EÈ]S|DOPO|TRAS|С|ПОСЛЕ)[ /+.-]*"
    rf"(?:{_ROUTE}[ ./&-]*)*{_AGENT}(?!\w)",
    r"(?<!HIGH )(?<!HIGH-)(?<!LOW )(?<!LOW-)\bCONTRAST(?:E|O|ED)?\b(?! ?(?:RESOL|PHANTOM|TEST))",
    r"\bKONTRAST\w*|\bKM\b|\+KM\b",
    r"(?<!STAGE )(?<!PHASE )(?<!GRADE )(?<!TYPE )(?<!LEVEL )(?<!\w)I\.?V\.?(?!\w)",
    r"\bMDC\b|\bCMDC\b|\bPDC\b|\bCIV\b|\bC/C\b",
    r"\bCE[ -]?CT\b|\bCE\b|\bCTP?A\b|\bCTV\b|(?<!\w)C\+|\+C\b|\bENHANCE[DM]\w*|\bPOST[ -]?CON\w*|\bINJ(?:ECT\w*)?\b",
    r"\bANGIO(?!MYO|SARC|ED|LIP)\w*|\bARTERI\w*|\bART(?:\.|ERIAL)? ?(?:PHASE|PH\b|FASE)",
    r"\bPORTAL\w*|\bPORTO[ -]?VEN\w*|\bPVP?\b",
    r"\bVENOUS\b|\bVEN[ÖO]S\w*|\bVEINEU\w*|\bNEPHRO\w*|\bUROGRA\w*|\bCORTICOMED\w*|\bEXCRET\w*|\bDELAY(?:ED)?\b",
    r"\bSP[ÄA](?:E)?TPHASE\b|\bSPÄT\b|\bTARDI[FV]\w*|\bLATE PHASE\b|\bKONTRASTLI\b|\bTEHOSTE\w*",
    r"КОНТРАСТ\w*|(?<!\w)КУ(?!\w)|АРТЕРИАЛ\w*|ВЕНОЗН\w*|БОЛЮС\w*",
    r"增强|增強|强化|造影|动脉期|動脈|静脉期|静脈相|门脉|門脈|门静脉|延迟期|延遲|平衡相|조영",
)
"""Images with contrast agent, after the words of :data:`_NATIVE` are removed."""

_BOTH = _compiled(
    r"\bW ?/? ?O(?:UT)? ?(?:/|&|\+|-|,|AND) ?W(?:ITH)?\b|\bWITHOUT (?:AND|&) WITH\b|\bW(?:ITH)? ?(?:/|&|AND) ?W/?O\b"
)


def contrast_in_text(text: str) -> bool | None:
    """Return whether a description says that contrast agent was given (or is seen): ``None`` if it says nothing.

    Negations belong to the words that follow them; a text with both (``W/O AND WITH``) counts as given.
    """
    words = plain(text)
    if _BOTH.search(words):
        return True
    rest = _NATIVE.sub(" ", words)
    if _GIVEN.search(rest):
        return True
    return False if rest != words else None


_NOTHING = re.compile(
    r"^(NO|NONE|NON|N/?A|0|FALSE|NOT? APPLIED|NIL|NULL|-+|KEINE?S?|AUCUNE?|NESSUNO|NINGUNO|NIENTE|НЕТ|无|無|なし)$"
)


def nothing_given(entry: str) -> bool:
    """Return whether an entry of agent or route says that no contrast agent was given."""
    return bool(_NOTHING.match(plain(entry))) or contrast_in_text(entry) is False
