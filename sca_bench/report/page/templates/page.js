(function () {
  "use strict";
  var viewer = document.getElementById("viewer");
  var open = null; // { gallery, card } while a region is enlarged

  function all(root, selector) { return Array.from(root.querySelectorAll(selector)); }
  function number(text) { return text === "" ? null : Number(text); }
  function make(tag, name, text) {
    var element = document.createElement(tag);
    if (name) { element.className = name; }
    if (text) { element.textContent = text; }
    return element;
  }

  // --- words ------------------------------------------------------------------------------------

  function wordsOf(row) {
    var words = [];
    Array.from(row.cells[1].childNodes).forEach(function (node) {
      var grade = node.nodeType === 1 ? node.className : "";
      node.textContent.split(/\s+/).filter(Boolean).forEach(function (text) {
        words.push({ text: text, grade: grade, plain: plain(text), differs: false });
      });
    });
    return words;
  }

  function plain(text) {
    return text.normalize("NFC").replace(/^[.,;:!?"']+|[.,;:!?"']+$/g, "").toLowerCase();
  }

  // The fewest edits from one caption to the other, as report/page/caption_words.py counts them.
  function markWhatDiffers(one, other) {
    var cost = [], i, j;
    one.concat(0).forEach(function (_, row) {
      cost.push(other.concat(0).map(function (_, column) {
        if (row === 0) { return column; }
        return column === 0 ? row : 0;
      }));
    });
    one.forEach(function (word, row) {
      other.forEach(function (beside, column) {
        var change = cost[row][column] + (word.plain === beside.plain ? 0 : 1);
        cost[row + 1][column + 1] =
          Math.min(change, cost[row][column + 1] + 1, cost[row + 1][column] + 1);
      });
    });
    one.concat(other).forEach(function (word) { word.differs = true; });
    for (i = one.length, j = other.length; i * j > 0;) {
      var same = one[i - 1].plain === other[j - 1].plain;
      if (cost[i][j] === cost[i - 1][j - 1] + (same ? 0 : 1)) {
        one[i - 1].differs = other[j - 1].differs = !same;
        i -= 1; j -= 1;
      } else if (cost[i][j] === cost[i - 1][j] + 1) { i -= 1; } else { j -= 1; }
    }
  }

  function line(row, words) {
    var p = make("p", "line"), said = make("span", "words"), last = null;
    p.append(make("span", "who", row.cells[0].textContent), " ", said);
    if (row.cells[1].querySelector("i")) { said.append(row.cells[1].querySelector("i").cloneNode(true)); }
    words.forEach(function (word) {
      var name = (word.grade + (word.differs ? " differs" : "")).trim();
      if (last ? last.className === name : false) { last.textContent += " " + word.text; return; }
      if (last) { said.append(" "); }
      last = make("span", name, word.text);
      said.append(last);
    });
    return p;
  }

  // --- a gallery --------------------------------------------------------------------------------

  function Gallery(root) {
    var self = this;
    this.root = root;
    this.form = root.querySelector("[data-controls]");
    this.cards = all(root, ".card");
    this.box = root.querySelector(".cards");
    this.mode = "outline";
    this.source = "0";
    this.cards.forEach(function (card) { card.rows = all(card, ".said"); });
    all(root, ".all").forEach(function (more) { more.hidden = true; }); // a picture opens it now
    all(root, "button.shot").forEach(function (button) {
      button.disabled = false;
      button.addEventListener("click", function () { enlarge(self, button.closest(".card")); });
    });
    if (!this.form) { return; }
    this.tabs = all(this.form, "[data-tab]");
    this.controls = all(this.form, "[data-control]");
    this.seeds = this.control("seed") ? Array.from(this.control("seed").options).map(function (one) {
      return one.value;
    }).filter(Boolean) : [this.cards[0].rows[0].dataset.seeds];
    this.standard = this.tabs.find(function (tab) { return !tab.disabled; }).dataset.tab;
    this.tab = this.standard;
    this.form.hidden = false;
    this.form.addEventListener("submit", function (event) { event.preventDefault(); });
    this.form.addEventListener("input", function () { self.update(); });
    this.form.addEventListener("reset", function () {
      setTimeout(function () { self.tab = self.standard; self.update(); });
    });
    this.tabs.forEach(function (tab) {
      tab.addEventListener("click", function () { self.tab = tab.dataset.tab; self.update(); });
    });
    if (!this.restore()) { this.update(); }
    window.addEventListener("hashchange", function () { self.restore(); });
  }

  Gallery.prototype.control = function (name) {
    return this.form ? this.form.querySelector('[data-control="' + name + '"]') : null;
  };

  Gallery.prototype.value = function (name) {
    var control = this.control(name);
    return control ? control.value.trim() : "";
  };

  Gallery.prototype.update = function () {
    var self = this, seed = this.value("seed");
    this.tabs.forEach(function (tab) {
      tab.setAttribute("aria-pressed", String(tab.dataset.tab === self.tab));
    });
    all(this.form, "[data-about]").forEach(function (text) {
      text.hidden = text.dataset.about !== self.tab;
    });
    this.cards.forEach(function (card) {
      card.now = self.rowsOf(card, seed);
      card.score = self.score(card);
      card.hidden = !self.wants(card);
    });
    this.compare();
    this.sort(this.value("sort"));
    if (this.control("mask")) { this.mode = this.value("mask"); }
    if (this.control("source")) { this.source = this.value("source"); }
    this.showMasks();
    var count = this.cards.filter(function (card) { return !card.hidden; }).length;
    var text = count + " of " + this.cards.length + " regions";
    var output = this.form.querySelector('[data-shown="count"]');
    if (output.textContent !== text) { output.textContent = text; }
    this.link();
  };

  // The rows of a card that count: of the chosen seed, or of all.
  Gallery.prototype.rowsOf = function (card, seed) {
    return card.rows.filter(function (row) {
      return seed === "" ? true : row.dataset.seeds.split(" ").includes(seed);
    });
  };

  Gallery.prototype.pairOf = function (card, seed) {
    var rows = this.rowsOf(card, seed);
    return [this.value("a"), this.value("b")].map(function (place) {
      return rows.find(function (row) { return row.dataset.cell === place; });
    });
  };

  // The chosen seed; of disputed regions the first one with which A and B differ.
  Gallery.prototype.seedOf = function (card) {
    var chosen = this.value("seed"), self = this, telling;
    if (chosen !== "") { return chosen; }
    if (this.tab === "disputed") {
      telling = this.seeds.find(function (seed) {
        var said = self.pairOf(card, seed).map(function (row) {
          return row ? row.cells[1].textContent : "";
        });
        return said[0] !== said[1];
      });
    }
    return telling === undefined ? this.seeds[0] : telling;
  };

  Gallery.prototype.score = function (card) {
    var of = this.value("of"), place = this.value(of || "a"), seed = this.value("seed");
    var sum = 0, count = 0;
    card.now.forEach(function (row) {
      var asked = of === "" ? !row.classList.contains("control") : row.dataset.cell === place;
      var times = seed === "" ? row.dataset.seeds.split(" ").length : 1;
      if (row.dataset.score ? asked : false) {
        sum += times * Number(row.dataset.score);
        count += times;
      }
    });
    return count === 0 ? null : sum / count;
  };

  Gallery.prototype.compare = function () {
    var self = this, asked = [this.value("a"), this.value("b"), this.value("seed")].join(" ");
    asked += this.tab === "disputed" ? " disputed" : "";
    if (this.value("a") === "" ? true : this.compared === asked) { return; }
    this.compared = asked;
    this.cards.forEach(function (card) {
      var seed = self.seedOf(card), rows = self.pairOf(card, seed).filter(Boolean);
      if (rows[0] === rows[1]) { rows.pop(); }
      var said = rows.map(wordsOf), lacks = rows.some(function (row) {
        return row.cells[1].querySelector("i") !== null;
      });
      if (lacks) { said = rows.map(function () { return []; }); }
      if (rows.length === 2) { markWhatDiffers(said[0], said[1]); }
      var pair = card.querySelector(".pair"), named = card.querySelector(".seed");
      pair.replaceChildren.apply(pair, rows.map(function (row, i) { return line(row, said[i]); }));
      if (named) { named.textContent = ", seed " + seed; }
    });
  };

  Gallery.prototype.wants = function (card) {
    var text = this.value("text").toLowerCase();
    var least = number(this.value("least")), most = number(this.value("most"));
    var gap = number(this.value("gap"));
    if (this.tab === "" ? false : !card.dataset.groups.split(" ").includes(this.tab)) { return false; }
    if (gap !== null ? !(Number(card.dataset.gap || 0) >= gap) : false) { return false; }
    if (least !== null ? card.score === null || least > card.score : false) { return false; }
    if (most !== null ? card.score === null || card.score > most : false) { return false; }
    if (text === "") { return true; }
    return [card.querySelector(".reference span")].concat(card.now.map(function (row) {
      return row.cells[1];
    })).some(function (element) { return element.textContent.toLowerCase().includes(text); });
  };

  Gallery.prototype.sort = function (by) {
    var box = this.box, cards = this.cards.slice();
    function place(card) { return by === "gap" ? -Number(card.dataset.gap || 0) : card.score; }
    if (by === "id") {
      cards.sort(function (a, b) {
        return a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true });
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

  // --- its link: #regions;tab=wrong;a=depth%3D1 ---------------------------------------------------

  function said(control, value) { // cells by name: their places differ from report to report
    if (!["a", "b"].includes(control.dataset.control)) { return value; }
    var option = Array.from(control.options).find(function (one) { return one.value === value; });
    return option ? option.textContent : "";
  }

  function standard(control) {
    if (control.tagName !== "SELECT") { return ""; }
    var chosen = Array.from(control.options).find(function (one) { return one.defaultSelected; });
    return (chosen || control.options[0]).value;
  }

  Gallery.prototype.link = function () {
    var parts = this.tab === this.standard ? [] : ["tab=" + (this.tab || "all")];
    this.controls.forEach(function (control) {
      var value = control.value.trim();
      if (value !== standard(control)) {
        parts.push(control.dataset.control + "=" + encodeURIComponent(said(control, value)));
      }
    });
    var hash = "#" + [this.root.id].concat(parts).join(";");
    if (parts.length === 0 ? !location.hash.startsWith("#" + this.root.id + ";") : false) { return; }
    if (location.hash !== hash) { history.replaceState(history.state, "", hash); }
  };

  Gallery.prototype.restore = function () {
    var parts = location.hash.slice(1).split(";"), wanted = {};
    if (parts.shift() === this.root.id ? parts.length === 0 : true) { return false; }
    parts.forEach(function (part) {
      var at = part.indexOf("=");
      try { wanted[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1)); } catch (error) {
        return; // not ours
      }
    });
    var tab = wanted.tab === "all" ? "" : wanted.tab;
    var found = this.tabs.find(function (one) { return one.dataset.tab === tab; });
    this.tab = found ? (found.disabled ? this.standard : tab) : this.standard;
    this.controls.forEach(function (control) {
      var value = wanted[control.dataset.control], usual = standard(control);
      if (control.tagName === "SELECT") {
        var option = Array.from(control.options).find(function (one) {
          return said(control, one.value) === value;
        });
        value = option ? option.value : usual;
      }
      control.value = value === undefined ? usual : value;
    });
    this.update();
    this.root.scrollIntoView();
    return true;
  };

  // --- masks --------------------------------------------------------------------------------------

  Gallery.prototype.showMasks = function () {
    var self = this;
    all(this.box, ".mask").concat(open ? all(viewer, ".mask") : []).forEach(function (path) {
      var size = path.ownerSVGElement.viewBox.baseVal, dim = self.mode === "dim";
      var outline = path.dataset.outline || path.getAttribute("d");
      path.dataset.outline = outline;
      path.toggleAttribute("hidden", self.mode === "off" ? true : path.dataset.source !== self.source);
      path.classList.toggle("dim", dim); // what is outside: the whole picture without the inside
      path.setAttribute("d", dim ? "M0 0H" + 2 * size.width + "V" + 2 * size.height + "H0z" + outline : outline);
    });
  };

  function toggleMask(mode) {
    var gallery = open.gallery;
    gallery.mode = gallery.mode === mode ? "off" : mode;
    if (gallery.control("mask")) {
      gallery.control("mask").value = gallery.mode;
      gallery.update();
    }
    gallery.showMasks();
    sayMask();
  }

  function sayMask() {
    all(viewer, "[data-mask]").forEach(function (button) {
      button.hidden = viewer.querySelector(".view .mask") === null;
      button.setAttribute("aria-pressed", String(open.gallery.mode === button.dataset.mask));
    });
  }

  // --- one region, enlarged -----------------------------------------------------------------------

  Gallery.prototype.shown = function () {
    return all(this.box, ".card").filter(function (card) {
      return card.hidden ? false : card.querySelector("svg") !== null;
    });
  };

  function enlarge(gallery, card) {
    open = { gallery: gallery, card: card };
    var view = viewer.querySelector(".view"), texts = viewer.querySelector(".view-texts");
    view.replaceChildren(card.querySelector("svg").cloneNode(true));
    texts.replaceChildren(card.querySelector(".texts").cloneNode(true));
    document.getElementById("viewer-title").textContent = card.dataset.name;
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

  all(viewer, "[data-move]").forEach(function (button) {
    button.addEventListener("click", function () { move(Number(button.dataset.move)); });
  });
  viewer.querySelector("[data-close]").addEventListener("click", function () { viewer.close(); });
  all(viewer, "[data-mask]").forEach(function (button) {
    button.addEventListener("click", function () { toggleMask(button.dataset.mask); });
  });
  viewer.addEventListener("click", function (event) {
    if (event.target === viewer) { viewer.close(); } // the backdrop
  });
  viewer.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    var key = event.key.toLowerCase();
    if (key === "arrowleft") { move(-1); } else if (key === "arrowright") { move(1); }
    else if (key === "m") { toggleMask("outline"); } else if (key === "d") { toggleMask("dim"); }
    else { return; }
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

  // --- what is folded away ------------------------------------------------------------------------

  function unfold() { // what a link leads to
    var id = location.hash.slice(1).split(";")[0], target = null;
    try { target = document.getElementById(decodeURIComponent(id)); } catch (error) {
      return; // no text
    }
    for (var at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") { at.open = true; }
    }
    if (target ? target.closest("details") : false) { target.scrollIntoView(); }
  }
  window.addEventListener("hashchange", unfold);
  unfold();
})();
