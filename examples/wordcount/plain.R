# Count the words of all files of a folder. Millpond names the folders in its environment; by hand:
# Rscript plain.R FOLDER [OUTPUT]
given <- commandArgs(trailingOnly = TRUE)
source <- if (length(given) > 0) given[1] else Sys.getenv("MILLPOND_INPUT_DATA")
target <- if (length(given) > 1) given[2] else Sys.getenv("MILLPOND_OUTPUT", ".")

files <- list.files(source, recursive = TRUE, all.files = TRUE, full.names = TRUE)
lines <- unlist(lapply(files, readLines, warn = FALSE, skipNul = TRUE))
lower <- tolower(lines)
words <- unlist(regmatches(lower, gregexpr("[a-z]+", lower, useBytes = TRUE)))
counts <- as.data.frame(table(word = words), responseName = "count", stringsAsFactors = FALSE)
counts <- counts[order(-counts$count, counts$word, method = "radix"), ]
write.csv(counts, file.path(target, "words.csv"), row.names = FALSE, quote = FALSE)
cat(sum(counts$count), "words,", nrow(counts), "different ones\n")
