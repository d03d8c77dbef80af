-- Changes that took nothing away, because another account of the person has it or because the person is protected: they are
-- looked at again until that ends.
CREATE INDEX changes_kept ON changes (seq) WHERE bound_result = 'kept' OR posted_result = 'kept';
CREATE INDEX changes_protected ON changes (seq) WHERE bound_result = 'protected' OR posted_result = 'protected';

-- Verdicts that are taken again until they are clean.
CREATE INDEX probes_unclean ON probes (at) WHERE verdict <> 'clean';
