-- Changes that took nothing away, because another account of the person has it or because the person is protected: they are
-- looked at again until that ends.
CREATE INDEX changes_spared ON changes (seq) WHERE bound_result IN ('kept', 'protected') OR posted_result IN ('kept', 'protected');

-- Verdicts that are taken again until they are clean.
CREATE INDEX probes_unclean ON probes (at) WHERE verdict <> 'clean';
