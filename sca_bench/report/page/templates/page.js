(function () {
  "use strict";
  var viewer = document.getElementById("viewer");
  var open = null; // { gallery, card } while a region is enlarged

  function all(root, selector) { return Array.from(root.querySelectorAll(selector)); }
  function number(text) { return text === "" ? null : Number(text); }

  function Gallery(root) {
    this.form = root.querySelector("[data-controls]");
    this.cards = all(root, ".card");
    this.box = root.querySelector(".cards");
    this.mask = "0";
    var self = this;
    all(root, "button.shot").forEach(function (button) {
      button.disabled = false;
      button.addEventListener("click", function () { enlarge(self, button.closest(".card")); });
    });
    if (!this.form) { return; }
    this.form.hidden = false;
    this.form.addEventListener("submit", function (event) { event.preventDefault(); });
    this.form.addEventListener("input", function () { self.update(); });
    this.form.addEventListener("reset", function () { setTimeout(function () { self.update(); }); });
    this.update(); // a browser may restore earlier choices on reload
  }

  Gallery.prototype.value = function (name) {
    var control = this.form ? this.form.querySelector('[data-control="' + name + '"]') : null;
    return control ? control.value.trim() : "";
  };

  Gallery.prototype.update = function () {
    var self = this, cells = {}, seed = this.value("seed"), of = this.value("of");
    var boxes = all(this.form, "[data-cell-choice]");
    boxes.forEach(function (box) { cells[box.dataset.cellChoice] = box.checked; });
    var shown = boxes.filter(function (box) { return box.checked; }).length;
    this.form.querySelector('[data-shown="cells"]').textContent =
      shown === boxes.length ? "all" : shown + " of " + boxes.length;
    this.cards.forEach(function (card) {
      card.scores = [];
      all(card, ".said").forEach(function (row) {
        var now = seed === "" || row.dataset.seed === seed;
        row.hidden = !(now ? cells[row.dataset.cell] : false);
        var asked = of === "" ? !row.hidden : now ? row.dataset.cell === of : false;
        if (asked) { if (row.dataset.score) { card.scores.push(Number(row.dataset.score)); } }
      });
      card.score = card.scores.length === 0 ? null :
        card.scores.reduce(function (a, b) { return a + b; }, 0) / card.scores.length;
      card.hidden = !self.wants(card);
    });
    this.sort(this.value("sort"));
    if (this.form.querySelector('[data-control="mask"]')) { this.showMasks(this.value("mask")); }
    var count = this.cards.filter(function (card) { return !card.hidden; }).length;
    var text = count + " of " + this.cards.length + " regions";
    var output = this.form.querySelector('[data-shown="count"]');
    if (output.textContent !== text) { output.textContent = text; }
  };

  Gallery.prototype.wants = function (card) {
    var text = this.value("text").toLowerCase(), group = this.value("group");
    var least = number(this.value("least")), most = number(this.value("most"));
    var gap = number(this.value("gap"));
    if (group !== "" ? card.dataset.group !== group : false) { return false; }
    if (gap !== null ? !(Number(card.dataset.gap || 0) >= gap) : false) { return false; }
    if (least !== null ? card.score === null || least > card.score : false) { return false; }
    if (most !== null ? card.score === null || card.score > most : false) { return false; }
    if (text === "") { return true; }
    var words = [card.querySelector(".reference span")].concat(all(card, ".said").filter(
      function (row) { return !row.hidden; }
    ).map(function (row) { return row.cells[1]; }));
    return words.some(function (element) {
      return element.textContent.toLowerCase().includes(text);
    });
  };

  Gallery.prototype.sort = function (by) {
    var box = this.box, cards = this.cards.slice();
    function place(card) { return by === "gap" ? -Number(card.dataset.gap || 0) : card.score; }
    if (by === "id") {
      cards.sort(function (a, b) {
        return a.dataset.region.localeCompare(b.dataset.region, "en", { numeric: true });
      });
    } else if (by !== "") {
      cards.sort(function (a, b) {
        var x = place(a), y = place(b);
        if (x === null || y === null) { return (x === null) - (y === null); }
        return by === "high" ? y - x : x - y;
      });
    }
    cards.forEach(function (card, index) {
      if (box.children[index] !== card) { box.insertBefore(card, box.children[index]); }
    });
  };

  Gallery.prototype.shown = function () {
    return all(this.box, ".card").filter(function (card) {
      return card.hidden ? false : card.querySelector("svg") !== null;
    });
  };

  Gallery.prototype.showMasks = function (source) {
    if (source !== "") { this.mask = source; }
    this.masked = source;
    all(this.box, ".mask").concat(all(viewer, ".mask")).forEach(function (image) {
      image.toggleAttribute("hidden", image.dataset.source !== source);
    });
  };

  function enlarge(gallery, card) {
    open = { gallery: gallery, card: card };
    var view = viewer.querySelector(".view"), texts = viewer.querySelector(".view-texts");
    var title = "Region " + card.dataset.region;
    view.replaceChildren(card.querySelector("svg").cloneNode(true));
    texts.replaceChildren(card.querySelector(".texts").cloneNode(true));
    document.getElementById("viewer-title").textContent = title;
    var cards = gallery.shown();
    document.getElementById("viewer-place").textContent =
      (cards.indexOf(card) + 1) + " of " + cards.length;
    sayMask();
    if (!viewer.open) { viewer.showModal(); }
  }

  function move(by) {
    var cards = open.gallery.shown();
    var next = cards[(cards.indexOf(open.card) + by + cards.length) % cards.length];
    if (next) { enlarge(open.gallery, next); }
  }

  function toggleMask() {
    var gallery = open.gallery, off = gallery.masked === "";
    var source = off ? gallery.mask : "";
    var control = gallery.form ? gallery.form.querySelector('[data-control="mask"]') : null;
    if (control) { control.value = source; }
    gallery.showMasks(source);
    sayMask();
  }

  function sayMask() {
    var button = viewer.querySelector("[data-mask]");
    button.hidden = viewer.querySelector(".view .mask") === null;
    button.setAttribute("aria-pressed", String(open.gallery.masked !== ""));
  }

  all(viewer, "[data-move]").forEach(function (button) {
    button.addEventListener("click", function () { move(Number(button.dataset.move)); });
  });
  viewer.querySelector("[data-close]").addEventListener("click", function () { viewer.close(); });
  viewer.querySelector("[data-mask]").addEventListener("click", toggleMask);
  viewer.addEventListener("click", function (event) {
    if (event.target === viewer) { viewer.close(); } // the backdrop
  });
  viewer.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (event.key === "ArrowLeft") { move(-1); } else if (event.key === "ArrowRight") { move(1); }
    else if (event.key.toLowerCase() === "m") { toggleMask(); } else { return; }
    event.preventDefault();
  });
  viewer.addEventListener("close", function () {
    if (viewer.open) { return; } // opened again before this was heard
    var button = open ? open.card.querySelector("button.shot") : null;
    open = null;
    if (button) { button.focus(); }
  });
  document.querySelectorAll("[data-gallery]").forEach(function (root) {
    if (root.querySelector(".cards")) { new Gallery(root); }
  });
})();
