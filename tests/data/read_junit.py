"""Validates a JUnit file by a schema and prints what a program that reads such files sees in it."""

import sys

from junitparser import JUnitXml
from lxml import etree

schema, report = sys.argv[1:]
etree.XMLSchema(etree.parse(schema)).assertValid(etree.parse(report))
for suite in JUnitXml.fromfile(report):
    print(suite.tests, suite.failures, suite.errors, suite.skipped)
    for case in suite:
        results = [f"{type(r).__name__} {r.type}: {r.message}" for r in case.result]
        print(f"{case.classname} | {case.name} | {'; '.join(results) or 'passed'}")
