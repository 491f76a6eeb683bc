"""`editbench fetch`: a pretrained model and published data sets, by pinned sources, into the cache folder."""
