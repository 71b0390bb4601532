-- Lines of batches whose content a third party refused: none but our own engines may see them again.
CREATE TABLE batch_home (
    batch_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (batch_id, number)
);
