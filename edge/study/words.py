"""The words of the report, in English and Dutch: short ones for residents, exact ones for engineers.

Both languages say the same; a test holds their keys and placeholders together.
"""

from __future__ import annotations

from dataclasses import dataclass

# Why a day is left out; holidays and weather bring reasons of their own.
WATCHED_TOO_LITTLE = "watched too little"
TWO_DAYS = "a window spans two days"
NO_DATA = "no data of"
LONE_WEEKDAY = "weekday occurs in one period only"
SCHOOL_HOLIDAY = "school holiday"


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that the report says in one language.

    Attributes:
        language: Its code.
        name: Its name in itself.
        decimal: What parts whole from tenths.
        kmh: Unit of speed.
        months: For dates.
        weekdays: Monday first.
        figures: Names of the figures by their key.
        units: By the key of the figure.
        answers: The first sentence, by what was found.
        certainty: The second sentence, by how sure it is.
        headings: Of sections.
        captions: Under pictures.
        axes: In pictures.
        table: Column heads.
        warnings: By key; ``{}`` takes the detail.
        variants: By key; ``{}`` takes the detail.
        reasons: Why a day is left out, by the beginning of the reason.
        method: Paragraphs.
        limits: Paragraphs.
    """

    language: str
    name: str
    decimal: str
    kmh: str
    months: tuple[str, ...]
    weekdays: tuple[str, ...]
    figures: dict[str, str]
    units: dict[str, str]
    answers: dict[str, str]
    certainty: dict[str, str]
    headings: dict[str, str]
    captions: dict[str, str]
    axes: dict[str, str]
    table: dict[str, str]
    warnings: dict[str, str]
    variants: dict[str, str]
    reasons: dict[str, str]
    method: tuple[str, ...]
    limits: tuple[str, ...]


ENGLISH = Words(
    language="en",
    name="English",
    decimal=".",
    kmh="km/h",
    months=("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
            "November", "December"),
    weekdays=("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    figures={
        "mean": "Mean speed",
        "v50": "V50: half drive this or slower",
        "v85": "V85: 85 of 100 drive this or slower",
        "share_over": "Share above the limit of {limit} km/h",
        "share_over10": "Share above {limit10} km/h",
        "volume": "Motor vehicles",
    },
    units={"mean": "km/h", "v50": "km/h", "v85": "km/h", "share_over": "%, points", "share_over10": "%, points",
           "volume": "a day"},
    answers={
        "slower": "Since the measure people drive more slowly: V85, the speed that 85 of 100 drivers do not exceed, is"
        " {size} km/h lower than it would have been.",
        "faster": "Since the measure people drive faster: V85, the speed that 85 of 100 drivers do not exceed, is"
        " {size} km/h higher than it would have been.",
        "unclear": "Whether people drive more slowly since the measure cannot be told from these data: a change of"
        " V85, the speed that 85 of 100 drivers do not exceed, of {low} to {high} km/h fits them, and none at all does"
        " too.",
    },
    certainty={
        "slower": "That is quite certain: the true change lies between {low} and {high} km/h, with 95 per cent"
        " confidence. {over}",
        "faster": "That is quite certain: the true change lies between {low} and {high} km/h, with 95 per cent"
        " confidence. {over}",
        "unclear": "The best guess is {estimate} km/h. Longer measuring, or a comparison street, makes it clearer."
        " {over}",
        "over": "Of 100 drivers {before} drove faster than {limit} before the measure, and {after} after it.",
        "doubt": "There is a reason for caution: see “What to know before believing this”.",
    },
    headings={
        "title": "Did the measure work?",
        "know": "What to know before believing this",
        "distribution": "How fast people drive",
        "daily": "V85 day by day",
        "heat": "When people drive fast",
        "coverage": "How well the street was watched",
        "table": "For the engineer",
        "variants": "The same question asked differently",
        "method": "Method",
        "limits": "What this cannot tell",
        "data": "Data",
    },
    captions={
        "distribution": "Share of vehicles by speed before ({before}) and after ({after}). The limit is {limit} km/h.",
        "daily": "Each dot is a day, its bar the 95 % interval from sampling alone; lines are the V85 of each period."
        " Days that were left out are hollow marks at the bottom.",
        "heat": "V85 by day of the week and time of day, in km/h; blocks of {hours} h, so that no published window is"
        " cut. Empty: fewer than 30 vehicles.",
        "coverage": "Share of each day in which the street was really watched. Below {least} a day is left out.",
    },
    axes={
        "speed": "speed, km/h", "share": "% of vehicles", "before": "before", "after": "after", "limit": "limit",
        "v85": "V85, km/h", "coverage": "watched", "left_out": "left out", "comparison": "comparison street",
    },
    table={
        "figure": "figure", "before": "before", "after": "after", "change": "change",
        "interval": "95 % interval", "p": "p", "alone": "without comparison street", "variant": "variant",
        "days": "days before + after", "v85": "change of V85, km/h", "none": "too few days",
        "pole": "pole", "calibrations": "calibrations", "provenance": "model, software, settings", "usable": "days"
        " used",
        "vehicles": "vehicles measured", "left_out": "days left out", "reason": "reason", "count": "days",
        "periods": "periods", "history": "earlier days of this pole", "same": "the same before and after",
    },
    warnings={
        "no_comparison": "No comparison street: season, weather and traffic elsewhere may explain part of the change.",
        "few_days": "Only {} usable days in a period; 14 or more are advised.",
        "short_wash_out": "Only {} days between the periods; drivers may still have been getting used to the measure.",
        "calibration_changed": "The calibration of {} changed; its full uncertainty is in the intervals.",
        "provenance_changed": "Model, software or settings of {} changed; this may look like a change of the street.",
        "limit_changed": "The speed limit changed; shares are counted against {} km/h in both periods.",
        "baseline_high": "The period before was faster than the days before it ({}): part of the fall would have come"
        " anyway (regression to the mean). The variant with all earlier days shows how much is left.",
        "no_history": "There are no earlier days to compare the period before with. If the street was chosen because"
        " it had just measured fast, part of a fall would have come anyway (regression to the mean).",
        "drifted": "The street and its comparison already moved apart within the period before ({}).",
        "days_remember": "Neighbouring days resemble each other (correlation {}): the intervals are too short.",
        "chance": "Dealing out the days at random often makes a change as large (p = {}), though the interval excludes"
        " zero.",
        "coverage_differs": "The two periods were not watched equally well (coverage {}).",
        "not_known": "A percentile lies above the last bin and is not known.",
    },
    variants={
        "first_half": "only the first half of the period after",
        "second_half": "only the second half of the period after (does it last?)",
        "working_days": "Monday to Friday only",
        "with_exclusions": "holidays and other exclusions left in",
        "no_comparison": "without comparison street",
        "without": "without comparison street {}",
        "whole_history": "before: also the {} earlier days",
        "coverage": "only days watched for {} or more",
        "direction": "direction {} only",
    },
    reasons={
        WATCHED_TOO_LITTLE: WATCHED_TOO_LITTLE,
        TWO_DAYS: TWO_DAYS,
        NO_DATA: NO_DATA,
        LONE_WEEKDAY: LONE_WEEKDAY,
        SCHOOL_HOLIDAY: SCHOOL_HOLIDAY,
    },
    method=(
        "The unit is the day. Vehicles of one day share weather, school and road works and are no independent"
        " witnesses; a test that treats them as such finds an effect in most streets where nothing happened.",
        "Every weekday weighs the same before and after. Days are divided by the share of them that was watched. A day"
        " counts only when every street has it. V50, V85 and shares are read from the published histograms, linear in"
        " the bin.",
        "With comparison streets the change is what the street did less what they did over the same days (difference in"
        " differences): km/h for speeds, ratios for volumes, and for shares the shift of a normal distribution.",
        "Intervals: days are resampled within weekdays (rescaling bootstrap, {replicates} times, all streets together);"
        " Student’s t with Satterthwaite’s degrees of freedom ({freedom} for V85). p: the labels before and after are"
        " dealt out anew within weekdays, {permutations} times. In simulations with known effects the intervals hold"
        " the truth in 93 to 97 of 100 studies.",
        "Calibration: its error is common to all vehicles of a period. It cancels for the most part when one"
        " calibration served both periods; otherwise the errors of both are added. Here it contributes {calibration}"
        " km/h (one sigma) to the change of V85.",
    ),
    limits=(
        "A difference in time is not yet a cause: what else happened in the street in these weeks must be known by"
        " those who know it.",
        "The comparison is as good as the comparison streets are alike. Traffic that moves there from the street counts"
        " twice.",
        "Speeds are means through a zone of some ten metres, not at one point; bicycles are not in them.",
        "Two weeks say nothing about next year. Measure again.",
    ),
)  # fmt: skip

DUTCH = Words(
    language="nl",
    name="Nederlands",
    decimal=",",
    kmh="km/u",
    months=("januari", "februari", "maart", "april", "mei", "juni", "juli", "augustus", "september", "oktober",
            "november", "december"),
    weekdays=("ma", "di", "wo", "do", "vr", "za", "zo"),
    figures={
        "mean": "Gemiddelde snelheid",
        "v50": "V50: de helft rijdt dit of langzamer",
        "v85": "V85: 85 van de 100 rijden dit of langzamer",
        "share_over": "Deel boven de limiet van {limit} km/u",
        "share_over10": "Deel boven {limit10} km/u",
        "volume": "Motorvoertuigen",
    },
    units={"mean": "km/u", "v50": "km/u", "v85": "km/u", "share_over": "%, punten", "share_over10": "%, punten",
           "volume": "per dag"},
    answers={
        "slower": "Sinds de maatregel wordt er langzamer gereden: de V85, de snelheid die 85 van de 100 bestuurders"
        " niet overschrijden, is {size} km/u lager dan zonder de maatregel het geval zou zijn.",
        "faster": "Sinds de maatregel wordt er harder gereden: de V85, de snelheid die 85 van de 100 bestuurders niet"
        " overschrijden, is {size} km/u hoger dan zonder de maatregel het geval zou zijn.",
        "unclear": "Of er sinds de maatregel langzamer wordt gereden, is uit deze gegevens niet op te maken: een"
        " verandering van de V85, de snelheid die 85 van de 100 bestuurders niet overschrijden, van {low} tot {high}"
        " km/u past erbij, en helemaal geen verandering ook.",
    },
    certainty={
        "slower": "Dat is vrij zeker: de werkelijke verandering ligt met 95 procent betrouwbaarheid tussen {low} en"
        " {high} km/u. {over}",
        "faster": "Dat is vrij zeker: de werkelijke verandering ligt met 95 procent betrouwbaarheid tussen {low} en"
        " {high} km/u. {over}",
        "unclear": "De beste schatting is {estimate} km/u. Langer meten, of een vergelijkingsstraat, maakt het"
        " duidelijker. {over}",
        "over": "Van de 100 bestuurders reden er {before} harder dan {limit} vóór de maatregel, en {after} erna.",
        "doubt": "Er is reden voor voorzichtigheid: zie “Wat u moet weten voordat u dit gelooft”.",
    },
    headings={
        "title": "Heeft de maatregel gewerkt?",
        "know": "Wat u moet weten voordat u dit gelooft",
        "distribution": "Hoe hard er wordt gereden",
        "daily": "V85 per dag",
        "heat": "Wanneer er hard wordt gereden",
        "coverage": "Hoe goed de straat is waargenomen",
        "table": "Voor de verkeerskundige",
        "variants": "Dezelfde vraag anders gesteld",
        "method": "Methode",
        "limits": "Wat dit niet kan zeggen",
        "data": "Gegevens",
    },
    captions={
        "distribution": "Deel van de voertuigen naar snelheid, vóór ({before}) en na ({after}). De limiet is {limit}"
        " km/u.",
        "daily": "Elke stip is een dag, het streepje het 95 %-interval door steekproeftoeval alleen; de lijnen zijn de"
        " V85 van elke periode. Weggelaten dagen staan als open tekens onderaan.",
        "heat": "V85 naar dag van de week en tijd van de dag, in km/u; blokken van {hours} uur, zodat geen gepubliceerd"
        " meetvenster wordt geknipt. Leeg: minder dan 30 voertuigen.",
        "coverage": "Deel van elke dag waarin de straat werkelijk is waargenomen. Onder {least} telt een dag niet mee.",
    },
    axes={
        "speed": "snelheid, km/u", "share": "% van de voertuigen", "before": "vóór", "after": "na", "limit": "limiet",
        "v85": "V85, km/u", "coverage": "waargenomen", "left_out": "weggelaten", "comparison": "vergelijkingsstraat",
    },
    table={
        "figure": "grootheid", "before": "vóór", "after": "na", "change": "verandering",
        "interval": "95 %-interval", "p": "p", "alone": "zonder vergelijkings\u00adstraat", "variant": "variant",
        "days": "dagen vóór + na", "v85": "verandering van V85, km/u", "none": "te weinig dagen",
        "pole": "paal", "calibrations": "kalibraties", "provenance": "model, software, instellingen",
        "usable": "gebruikte dagen", "vehicles": "gemeten voertuigen", "left_out": "weggelaten dagen",
        "reason": "reden",
        "count": "dagen", "periods": "perioden", "history": "eerdere dagen van deze paal",
        "same": "vóór en na dezelfde",
    },
    warnings={
        "no_comparison": "Geen vergelijkingsstraat: seizoen, weer en verkeer elders kunnen een deel van de verandering"
        " verklaren.",
        "few_days": "Slechts {} bruikbare dagen in een periode; 14 of meer wordt aangeraden.",
        "short_wash_out": "Slechts {} dagen tussen de perioden; bestuurders kunnen nog aan de maatregel hebben moeten"
        " wennen.",
        "calibration_changed": "De kalibratie van {} is veranderd; haar volle onzekerheid zit in de intervallen.",
        "provenance_changed": "Model, software of instellingen van {} zijn veranderd; dat kan op een verandering van de"
        " straat lijken.",
        "limit_changed": "De maximumsnelheid is veranderd; delen zijn in beide perioden geteld tegen {} km/u.",
        "baseline_high": "In de periode vóór werd harder gereden dan in de dagen daarvoor ({}): een deel van de daling"
        " was ook zo gekomen (regressie naar het gemiddelde). De variant met alle eerdere dagen laat zien wat"
        " overblijft.",
        "no_history": "Er zijn geen eerdere dagen om de periode vóór mee te vergelijken. Is de straat gekozen omdat er"
        " net hard was gemeten, dan was een deel van een daling ook zo gekomen (regressie naar het gemiddelde).",
        "drifted": "De straat en haar vergelijking liepen al in de periode vóór uiteen ({}).",
        "days_remember": "Opeenvolgende dagen lijken op elkaar (correlatie {}): de intervallen zijn te kort.",
        "chance": "Bij willekeurig verdelen van de dagen ontstaat vaak een even grote verandering (p = {}), hoewel het"
        " interval nul uitsluit.",
        "coverage_differs": "De twee perioden zijn niet even goed waargenomen ({}).",
        "not_known": "Een percentiel ligt boven de laatste klasse en is niet bekend.",
    },
    variants={
        "first_half": "alleen de eerste helft van de periode na",
        "second_half": "alleen de tweede helft van de periode na (beklijft het?)",
        "working_days": "alleen maandag tot en met vrijdag",
        "with_exclusions": "feestdagen en andere uitgesloten dagen meegeteld",
        "no_comparison": "zonder vergelijkingsstraat",
        "without": "zonder vergelijkingsstraat {}",
        "whole_history": "vóór: ook de {} eerdere dagen",
        "coverage": "alleen dagen die voor {} of meer zijn waargenomen",
        "direction": "alleen richting {}",
    },
    reasons={
        WATCHED_TOO_LITTLE: "te weinig waargenomen",
        TWO_DAYS: "een meetvenster beslaat twee dagen",
        NO_DATA: "geen gegevens van",
        LONE_WEEKDAY: "weekdag komt maar in één periode voor",
        SCHOOL_HOLIDAY: "schoolvakantie",
    },
    method=(
        "De eenheid is de dag. Voertuigen van één dag delen weer, school en wegwerk en zijn geen onafhankelijke"
        " getuigen; een toets die ze wel zo behandelt, vindt een effect in de meeste straten waar niets is gebeurd.",
        "Elke weekdag weegt vóór en na even zwaar. Dagen zijn gedeeld door het deel ervan dat is waargenomen. Een dag"
        " telt alleen als alle straten die dag hebben. V50, V85 en delen zijn uit de gepubliceerde histogrammen"
        " gelezen, lineair binnen de klasse.",
        "Met vergelijkingsstraten is de verandering wat de straat deed min wat zij deden over dezelfde dagen"
        " (difference in differences): km/u voor snelheden, verhoudingen voor intensiteiten, en voor delen de"
        " verschuiving van een normale verdeling.",
        "Intervallen: dagen zijn binnen weekdagen opnieuw getrokken (herschalende bootstrap, {replicates} keer, alle"
        " straten samen); Students t met de vrijheidsgraden van Satterthwaite ({freedom} voor V85). p: de etiketten"
        " vóór en na zijn binnen weekdagen opnieuw verdeeld, {permutations} keer. In simulaties met bekend effect"
        " bevatten de intervallen in 93 tot 97 van de 100 onderzoeken de waarheid.",
        "Kalibratie: haar fout is gelijk voor alle voertuigen van een periode. Zij valt grotendeels weg als één"
        " kalibratie beide perioden diende; anders worden de fouten van beide opgeteld. Hier draagt zij {calibration}"
        " km/u (één sigma) bij aan de verandering van V85.",
    ),
    limits=(
        "Een verschil in de tijd is nog geen oorzaak: wat er in deze weken verder in de straat gebeurde, moeten zij"
        " weten die haar kennen.",
        "De vergelijking is zo goed als de vergelijkingsstraten lijken. Verkeer dat vanuit de straat daarheen gaat,"
        " telt dubbel.",
        "Snelheden zijn gemiddelden door een zone van zo'n tien meter, niet op één punt; fietsen zitten er niet in.",
        "Twee weken zeggen niets over volgend jaar. Meet opnieuw.",
    ),
)  # fmt: skip

LANGUAGES = {"nl": DUTCH, "en": ENGLISH}
