"""Presidio's pattern recognizers over a corpus of contrib/pii-corpus, for `make bench`: which spans they find, and how long they take.

    presidio.py CORPUS.jsonl OUT.json    OUT: {"seconds": s, "found": [[{"start", "end", "entity"}, ...] per row]}, offsets in characters

The language model is a blank spaCy: only the recognizers by pattern, checksum and context words are at work, no NER. A blank spaCy has no lemmas, which Presidio
compares context words with; the words themselves stand for them, so that context counts for Presidio as well.
"""

import json
import logging
import sys
import time

import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from spacy.language import Language

ENTITIES = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "IP_ADDRESS": "ip_address",
    "MAC_ADDRESS": "mac_address",
    "UK_NINO": "uk_nino",
    "UK_NHS": "uk_nhs",
}
THRESHOLD = 0.4  # the score of a phone number without context: the lowest that counts as found


@Language.component("words_are_lemmas")
def words_are_lemmas(doc):
    for token in doc:
        token.lemma_ = token.lower_
    return doc


class Blank(SpacyNlpEngine):
    def __init__(self):
        super().__init__()
        nlp = spacy.blank("en")
        nlp.add_pipe("words_are_lemmas")
        self.nlp = {"en": nlp}

    def is_loaded(self):
        return True


def main(corpus, out):
    logging.disable(logging.CRITICAL)
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    registry.remove_recognizer("SpacyRecognizer")
    engine = AnalyzerEngine(registry=registry, nlp_engine=Blank(), supported_languages=["en"])
    there = set(engine.get_supported_entities("en"))
    entities = [e for e in ENTITIES if e in there]
    with open(corpus, encoding="utf-8") as f:
        texts = [json.loads(line)["text"] for line in f]
    engine.analyze(texts[0], language="en", entities=entities)  # what is compiled once is not timed
    found, start = [], time.perf_counter()
    for text in texts:
        found.append([(r.start, r.end, ENTITIES[r.entity_type]) for r in engine.analyze(text, language="en", entities=entities, score_threshold=THRESHOLD)])
    seconds = time.perf_counter() - start
    with open(out, "w", encoding="utf-8") as f:
        json.dump({"seconds": seconds, "entities": [ENTITIES[e] for e in entities], "found": [[{"start": a, "end": b, "entity": e} for a, b, e in row] for row in found]}, f)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
