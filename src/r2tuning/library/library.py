"""A library of videos in a folder: created or opened, filled, asked, kept in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch

from r2tuning.errors import LibraryError
from r2tuning.grounder import Grounder
from r2tuning.library import records
from r2tuning.library.catalog import Catalog, open_catalog
from r2tuning.library.hits import Hits
from r2tuning.library.indexing import Added, Progress, drop_unused, update_files
from r2tuning.library.places import open_place
from r2tuning.library.questions import ask_like, ask_picture, ask_sentence, find_video
from r2tuning.library.records import Generation, GenerationFacts, Keep, LibraryInfo, Listed
from r2tuning.library.remembered import Remembered
from r2tuning.library.scanning import Scan, list_roots, remove_places, require_paths
from r2tuning.library.search import BLOCK, search, to_groundings
from r2tuning.library.snapshot import Filters, Snapshot, take_snapshot
from r2tuning.processes import Machines
from r2tuning.results import Grounding
from r2tuning.types import Engine, Moment, Sampling

DEFAULT_MODEL = "qvhighlights"


class Library:
    """Many videos in one place: index them once, then find moments of all of them with one sentence.

    One process at a time may write, any number may read meanwhile; each sees what is complete.

    Args:
        path: Folder of the library, or an address in an object store such as ``s3://bucket/videos`` (extra ``lance``);
            created when the first video is added.
        model: Which model to encode and to ask with, named as for `Grounder.from_pretrained`. None for the one that
            made the library.
        backbone: Where the model's backbone is, if not where it says.
        device: Where to run; None for the GPU if there is one.
        engine: What runs the image tower; None for the fastest in its own precision, or that of the library.
        keep: What to keep of videos, see `Keep`. None for that of the library, or ``answers``.
        sampling: How frames are picked. None for that of the library, or ``exact``.

    ```python
    library = Library("~/videos.r2", model="demo")
    library.add(["~/videos"])
    for hit in library.search("a red circle falls"):
        print(hit.video, hit.moment, hit.score)
    ```
    """

    def __init__(
        self,
        path: str | Path,
        model: str | Path | None = None,
        *,
        backbone: str | Path | None = None,
        device: str | torch.device | None = None,
        engine: Engine | None = None,
        keep: Keep | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._place = open_place(path)
        self._model = None if model is None else records.name_model(model)
        self._backbone = None if backbone is None else records.name_model(backbone)
        self._device = device
        self._engine: Engine | None = engine
        self._keep: Keep | None = keep
        self._sampling: Sampling | None = sampling
        self._loaded: tuple[tuple[str, str | None, Engine | None], Grounder] | None = None
        self._fitting: tuple[GenerationFacts, Grounder] | None = None
        self._snapshot: Snapshot | None = None
        self._remembered = Remembered()

    def __repr__(self) -> str:
        return f"<Library {self.name}>"

    @property
    def name(self) -> str:
        """Its folder, or its address in an object store."""
        return self._place.name

    @property
    def folder(self) -> Path:
        """Where its catalog is; of a library in an object store, where a copy of the newest one is."""
        return self._place.find_folder()

    def add(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        jobs: int = 1,
        machines: Machines | None = None,
        retry: bool = False,
        progress: Progress | None = None,
        announce: Callable[[Scan, int], None] | None = None,
    ) -> Added:
        """Adds videos: files, or folders with their subfolders. What is there already and has not changed is skipped.

        Each video is complete in the library as soon as it is encoded, so that an interruption loses only those being
        encoded.

        Args:
            paths: What to add.
            jobs: Processes that encode side by side.
            machines: What encodes instead of this machine, such as a `r2tuning.cluster.Cluster`.
            retry: Whether to try files again that could not be used before and have not changed.
            progress: Called with the number of videos encoded and expected.
            announce: Called once with what was found, and the number of videos to encode.

        Raises:
            VideoError: If a path does not exist.
            LibraryError: If the library cannot be written, is being written by another process, or was made by another
                model.
        """
        roots = list_roots([paths] if isinstance(paths, (str, os.PathLike)) else paths)
        require_paths(roots)
        with self._place.write() as catalog:
            facts = self._describe(catalog)
            current = next((g for g in catalog.list_generations() if g.current), None)
            if current is not None and not current.facts.same(facts):
                raise records.other_model(self.name, current.facts, facts)
            with catalog.change():
                catalog.add_roots(roots)
                generation = current or catalog.add_generation(facts, current=True)
            added = self._update(catalog, generation, roots, jobs, machines, retry, progress, announce)
            self._place.tidy(catalog)
            return added

    def rescan(
        self,
        *,
        jobs: int = 1,
        machines: Machines | None = None,
        retry: bool = False,
        progress: Progress | None = None,
        announce: Callable[[Scan, int], None] | None = None,
    ) -> Added:
        """Looks again at everything that was added: encodes what is new or changed, and follows what was moved.

        Files that are gone are left out of searches until they are back. Where the library was opened with another
        model than made it, or another way to encode, or is to keep more, all videos are encoded again beside the old
        ones, which answer until the new ones are complete. Where it is to keep less, what is too much is removed.
        Arguments and errors are those of `add`.
        """
        with self._place.write() as catalog:
            facts = self._describe(catalog)
            roots = catalog.list_roots()
            require_paths(roots)
            generation = catalog.choose_generation(facts)
            added = self._update(catalog, generation, roots, jobs, machines, retry, progress, announce)
            if not generation.current:
                with catalog.change():
                    catalog.switch(generation.id)
            self._place.tidy(catalog)
            return added

    def _update(
        self,
        catalog: Catalog,
        generation: Generation,
        roots: Sequence[str],
        jobs: int,
        machines: Machines | None,
        retry: bool,
        progress: Progress | None,
        announce: Callable[[Scan, int], None] | None,
    ) -> Added:
        return update_files(
            catalog,
            self._place.index,
            generation,
            roots,
            lambda: self._load(generation.facts),
            jobs=jobs,
            machines=machines,
            retry=retry,
            progress=progress,
            announce=announce,
        )

    def search(
        self,
        query: str | None = None,
        *,
        like: tuple[str | os.PathLike[str], float, float] | None = None,
        image: str | os.PathLike[str] | None = None,
        without: Sequence[str] = (),
        top: int = 20,
        within: str | None = None,
        since: float | None = None,
        min_duration: float | None = None,
        threshold: float | None = None,
        after: str = "",
        candidates: int = BLOCK,
    ) -> Hits:
        """Finds the moments of all videos that match a sentence, another moment or a picture, best first.

        Args:
            query: A sentence.
            like: Or a moment to find more like: a video of the library, start and end in seconds on its clock.
            image: Or a picture file. As for ``like``, times are then those of similar frames; the R² head reads only
                sentences.
            without: Sentences that must not match what is found. A moment's score is the probability that it is right,
                times that of none of these being there.
            top: Most hits on a page.
            within: Only videos whose path fits this pattern, such as ``*/2024/*``, or that lie in this folder.
            since: Only files changed at this time or later, seconds since 1970.
            min_duration: Only videos of at least so many seconds.
            threshold: Lowest score of a hit; None for all.
            after: `Hits.next` of the page before. Videos that were added since are not among the next hits.
            candidates: How many windows are refined and ranked together.

        Raises:
            QueryError: If a query is empty.
            VideoError: If the picture cannot be read.
            LibraryError: If there is no library, it was made by another model, or it lacks the video of ``like``.
            ValueError: If a number is out of range, or not one of ``query``, ``like`` and ``image`` is given.
        """
        if sum(given is not None for given in (query, like, image)) != 1 or (without and query is None):
            raise ValueError("give one of query, like and image; without goes with a query")
        if top < 1 or candidates < 1 or (threshold is not None and not 0 <= threshold <= 1):
            raise ValueError(
                f"top ({top}) and candidates ({candidates}) must be at least 1, threshold ({threshold}) in [0, 1]"
            )
        snapshot = self.look()
        grounder = self._load(snapshot.generation.facts)
        if without and snapshot.generation.facts.keep == "vectors":
            raise LibraryError(
                f"{self.name}: keeps vectors only, which cannot tell what is not there; use --keep answers"
            )
        if query is not None:
            sentence, *others = self._remembered.encode(grounder.backbone, [query, *without])
            question = ask_sentence(sentence, others)
        elif image is not None:
            question = ask_picture(grounder.backbone, image)
        else:
            path, start, end = cast("tuple[str, float, float]", like)
            video = find_video(snapshot.videos, snapshot.files, path)
            question = ask_like(video, snapshot.view.read(video.id), os.fspath(path), Moment(start, end, 1.0))
        return search(
            snapshot,
            grounder,
            question,
            self._remembered.seen,
            top=top,
            filters=Filters(within, since, min_duration),
            threshold=threshold,
            after=after,
            candidates=candidates,
        )

    def to_groundings(self, hits: Hits) -> Sequence[Grounding]:
        """The hits as an answer for each video, for charts, pages and other files; best video first."""
        return to_groundings(hits, self.look(), self.load())

    def load(self) -> Grounder:
        """The model that made it, loaded once."""
        return self._load(self.look().generation.facts)

    def list(self) -> Sequence[Listed]:
        """All files, by path, with their videos."""
        with self._read() as catalog:
            return catalog.list_contents()[1]

    def info(self) -> LibraryInfo:
        """What the library holds."""
        with self._read() as catalog:
            generations = catalog.list_generations()
            current = next((g for g in generations if g.current), None)
            videos = catalog.list_videos(current.id) if current is not None else []
            files = catalog.list_files()
            rows, dead, size = self._place.measure(catalog)
        return LibraryInfo(
            name=self.name,
            generation=current,
            building=next((g for g in generations if not g.current), None),
            files=len(files),
            videos=len(videos),
            seconds=sum(video.duration for video in videos),
            missing=sum(file.missing for file in files),
            failed=sum(bool(file.reason) for file in files),
            rows=rows,
            dead=dead,
            bytes=size,
        )

    def remove(self, paths: Iterable[str | os.PathLike[str]] = (), *, missing: bool = False) -> Sequence[str]:
        """Takes files out of the library, with their videos unless other files have the same content.

        Args:
            paths: Files, and folders with all that is in them. They may be gone already. They stay out, also if a
                folder around them is looked at again, until they are added by these names.
            missing: Whether to take out all files that are gone, too; these come back if they are there again.

        Returns:
            The files that were taken out.

        Raises:
            LibraryError: If a path is not in the library.
        """
        places = [os.path.abspath(path) for path in paths]  # noqa: PTH100
        with self._place.write() as catalog:
            files, gone = catalog.list_files(), [f.path for f in catalog.list_files() if missing and f.missing]
            for place in places:
                inside = [f.path for f in files if f.path == place or f.path.startswith(os.path.join(place, ""))]  # noqa: PTH118
                if not inside:
                    raise LibraryError(f"{place}: is not in the library; see r2tuning library list")
                gone += inside
            with catalog.change():
                catalog.drop_files(gone)
                catalog.drop_roots(places)
                catalog.save_removed(remove_places(places, catalog.list_roots(), catalog.list_removed()))
                drop_unused(catalog, self._place.index)
            self._place.tidy(catalog)
        return sorted(set(gone))

    def check(self, *, repair_it: bool = False) -> Sequence[str]:
        """Looks for damage: what is wrong, a line each.

        With ``repair_it``, what is damaged is dropped, and `rescan` encodes it again.
        """
        if not repair_it:
            with self._read() as catalog:
                return [*catalog.check(), *(text for _, text in self._place.find_damage(catalog))]
        with self._place.write() as catalog:
            damage = list(self._place.find_damage(catalog))
            problems = [*catalog.check(), *(text for _, text in damage)]
            with catalog.change():
                catalog.drop_videos(sorted({video for video, _ in damage}))
            self._place.tidy(catalog)
        return problems

    @contextmanager
    def _read(self) -> Iterator[Catalog]:
        """One state of the catalog, whatever a writer does meanwhile."""
        with open_catalog(self.folder) as catalog, catalog.look():
            yield catalog

    def look(self) -> Snapshot:
        """The library as it is now, for what reads it as a whole."""
        for attempt in range(5):
            with self._read() as catalog:
                if self._snapshot is not None and self._snapshot.changes == catalog.count_changes():
                    return self._snapshot
                try:
                    self._snapshot = take_snapshot(catalog, self._place)
                    return self._snapshot
                except LibraryError:  # a writer may have removed old vectors meanwhile
                    if attempt == 4:
                        raise
        raise AssertionError

    def _describe(self, catalog: Catalog) -> GenerationFacts:
        """What videos would be encoded by now: as asked for, and otherwise as the library is."""
        current = next((g.facts for g in catalog.list_generations() if g.current), None)
        model, backbone = self._model, self._backbone
        engine, keep, sampling = self._engine, self._keep, self._sampling
        if current is not None:
            if model is None:
                model, backbone = current.model, backbone or current.backbone_at
            engine, keep, sampling = engine or current.engine, keep or current.keep, sampling or current.sampling
        model = model or DEFAULT_MODEL
        grounder = self._open(model, backbone, engine)
        return records.describe(grounder, model, backbone, keep or "answers", sampling or "exact")

    def _open(self, model: str, backbone: str | None, engine: Engine | None) -> Grounder:
        wanted = model, backbone, engine
        if self._loaded is None or self._loaded[0] != wanted:
            grounder = Grounder.from_pretrained(model, backbone=backbone, device=self._device, engine=engine)
            self._loaded = wanted, grounder
        return self._loaded[1]

    def _load(self, facts: GenerationFacts) -> Grounder:
        """The model that made a generation."""
        if self._fitting is not None and self._fitting[0] == facts:
            return self._fitting[1]
        model, backbone = self._model or facts.model, self._backbone or facts.backbone_at
        grounder = self._open(model, backbone, self._engine or facts.engine)
        mine = records.describe(grounder, model, backbone, facts.keep, facts.sampling)
        if not mine.same(facts):
            raise records.other_model(self.name, facts, mine)
        self._fitting, self._remembered = (facts, grounder), Remembered()
        return grounder
